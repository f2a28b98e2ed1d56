"""Everything about an evaluation that can be settled, and refused, before weights are loaded."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit import results
from evalkit.identity import Identity, digest, identity
from evalkit.models.endpoint import EndpointModel, connect
from evalkit.models.server import Endpoint
from evalkit.permutation import permuted
from evalkit.planning import Candidate, Plan, Wanted, plan
from evalkit.types import ChoiceTask, Task
from modelkit import checkpoint, device, hub
from modelkit.chat import has_template
from modelkit.errors import UserError
from modelkit.fingerprint import fingerprint
from modelkit.run import run_of

Say = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """How to run: everything beside what is asked. What is ``None`` is chosen to suit the machine.

    :param exact: every sequence alone, nothing reused; fp32 unless *dtype* says otherwise.
    :param permute: ask each question in every cyclic order of its options.
    :param batch_tokens: tokens in a batch.
    :param revision: of a model on the hub.
    :param endpoint: the server that has the model.
    """

    dtype: str | None = None
    device: str | None = None
    chat: bool = False
    seed: int = 0
    log_prompts: bool = False
    out: Path | None = None
    exact: bool = False
    permute: bool = False
    batch_tokens: int | None = None
    revision: str | None = None
    endpoint: Endpoint | None = None


@dataclass(frozen=True)
class Prepared:
    """An evaluation ready to start. ``path`` holds the weights, or ``served`` asks who has them; ``name`` is what the user calls them."""

    name: str
    path: Path
    fingerprint: str
    is_reward_model: bool
    plan: Plan
    settings: Settings
    dtype: str
    device: str
    id: str
    identity: Identity
    asked: dict[str, Any]
    out: Path
    served: EndpointModel | None = None

    @property
    def digest(self) -> str:
        """The identity in 64 hex digits."""
        return digest(self.identity)


def prepare(model: str | Path, wanted: Wanted, settings: Settings, say: Say) -> Prepared:
    """Find the model, read the data, resolve the settings, and see that the result can be written.

    :raises UserError: for a checkpoint, endpoint, task, data file, setting or output folder that won't do.
    """
    if settings.endpoint is not None:
        return _prepare_served(model, settings.endpoint, wanted, settings, say)
    if settings.dtype is not None:
        device.dtype_of(settings.dtype)
    path = hub.find(str(model), settings.revision, say)
    checkpoint.check(path)
    with ThreadPoolExecutor(1) as beside:  # reading and hashing gigabytes lets other threads run
        hashing = beside.submit(fingerprint, path)
        candidate = Candidate(path, checkpoint.is_reward_model(path), has_template(path), run_of(path))
        if settings.chat and not candidate.has_chat_template:
            raise UserError(f"--chat needs a chat template, and {model} has none.")
        planned = _planned(wanted, candidate, settings, say)
        where = _device(settings.device)
        dtype = settings.dtype or default_dtype(where, settings.exact)
        mark = hashing.result()
    return _prepared(str(model), candidate, mark, wanted, planned, settings, dtype, where)


def _prepare_served(model: str | Path, endpoint: Endpoint, wanted: Wanted, settings: Settings, say: Say) -> Prepared:
    """The same for a model behind an endpoint: what the server can do is found out and said."""
    for name in ("dtype", "device", "exact", "batch_tokens", "revision"):
        if getattr(settings, name):
            raise UserError(f"--{name.replace('_', '-')} is for weights on this machine, and --endpoint has them elsewhere: leave one out.")
    served = connect(endpoint, settings.chat)
    say(f"{endpoint.url}: {served.abilities}. Which weights answer there can't be verified.")
    candidate = Candidate(Path(model), False, served.abilities.chat, None, is_served=True)
    planned = _planned(wanted, candidate, settings, say)
    return _prepared(str(model), candidate, served.fingerprint, wanted, planned, settings, "served", "endpoint", served)


def _prepared(
    name: str,
    candidate: Candidate,
    mark: str,
    wanted: Wanted,
    planned: Plan,
    settings: Settings,
    dtype: str,
    where: str,
    served: EndpointModel | None = None,
) -> Prepared:
    """Name the evaluation by all that decides its numbers, and see that its result can be written."""
    tokenizer = settings.endpoint.tokenizer if settings.endpoint else None
    told = {"dtype": dtype, "tokenizer": fingerprint(tokenizer) if tokenizer else None}
    asked = _asked(wanted, settings, planned) | told | {"endpoint": settings.endpoint.url if settings.endpoint else None}
    id = results.result_id(name, wanted.tasks, {"fingerprint": mark, "data": [task.data for task in planned.tasks], **asked})
    out = settings.out or (candidate.run.evaluations() if candidate.run else Path("results")) / id
    results.check_writable(out)
    deciding = {setting: getattr(settings, setting) for setting in ("chat", "seed", "exact", "batch_tokens", "log_prompts")}
    whole = identity(mark, planned.tasks, {"device": where.partition(":")[0], **told, **deciding})
    return Prepared(name, candidate.path, mark, candidate.is_reward_model, planned, settings, dtype, where, id, whole, asked, out, served)


def _planned(wanted: Wanted, candidate: Candidate, settings: Settings, say: Say) -> Plan:
    """The tasks, read; what is left out is said."""
    planned = plan(wanted, candidate)
    for name, reason in planned.left_out.items():
        say(f"left out {name}: {reason}")
    if settings.permute:
        planned.tasks = [_permuted(task) for task in planned.tasks]
    return planned


def _permuted(task: Task) -> Task:
    return permuted(task) if isinstance(task, ChoiceTask) else task


def _device(name: str | None) -> str:
    """The device asked for, else this process's own GPU among several, else the machine's best."""
    found = device.choose_device(name)
    if name is None and found.type == "cuda" and "LOCAL_RANK" in os.environ:
        import torch

        return f"cuda:{int(os.environ['LOCAL_RANK']) % torch.cuda.device_count()}"
    return str(found)


def default_dtype(where: str, exact: bool = False) -> str:
    """fp32 where nothing else is faster or when every digit counts, else half precision."""
    if exact or not where.startswith("cuda"):
        return "fp32"
    import torch

    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def _asked(wanted: Wanted, settings: Settings, planned: Plan) -> dict[str, Any]:
    """The settings that a number depends on."""
    names = ("device", "chat", "seed", "exact", "permute", "batch_tokens", "revision")
    asked = dataclasses.asdict(wanted) | {name: getattr(settings, name) for name in names}
    asked["data"] = str(wanted.data) if wanted.data else None
    asked["measured"] = [task.name for task in planned.tasks]
    return asked
