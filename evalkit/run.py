"""One evaluation from start to end: plan, load, measure, write."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit import results
from evalkit.aggregate import reasons
from evalkit.bench import Bench, Watch, progress
from evalkit.credit import chance, majority
from evalkit.methods import Record, method
from evalkit.models import local
from evalkit.planning import Candidate, Plan, Wanted, plan
from evalkit.types import ChoiceTask, Sample, Task, TextTask
from modelkit import checkpoint, device
from modelkit.errors import UserError
from modelkit.fingerprint import fingerprint
from modelkit.records import MethodScore, ModelRecord, Result, Speed, TaskScore
from modelkit.run import run_of

LOST = "nothing came back: please report this"


@dataclass(frozen=True)
class Settings:
    """How to run: everything beside what is asked."""

    dtype: str = "fp32"
    device: str | None = None
    chat: bool = False
    seed: int = 0
    log_prompts: bool = False
    out: Path | None = None


@dataclass(frozen=True)
class Evaluated:
    """A finished evaluation and where it lies. ``lost`` items are those nobody accounted for: there should be none."""

    result: Result
    out: Path
    lost: int


def evaluate(path: Path, wanted: Wanted, settings: Settings, say: Callable[[str], None] = lambda line: None) -> Evaluated:
    """Measure a checkpoint and write the result.

    :param say: told, line by line, what is worth knowing (tasks left out, say).
    :raises UserError: for a checkpoint, task, data file or output folder that won't do; nothing is written then.
    """
    checkpoint.check(path)
    dtype = device.dtype_of(settings.dtype)
    where = device.choose_device(settings.device)
    threads = device.set_threads()
    tokenizer = checkpoint.load_tokenizer(path)
    candidate = Candidate(path, checkpoint.is_reward_model(path), tokenizer.chat_template is not None, run_of(path))
    if settings.chat and not candidate.has_chat_template:
        raise UserError(f"--chat needs a chat template, and {path} has none.")
    planned = plan(wanted, candidate)
    for name, reason in planned.left_out.items():
        say(f"left out {name}: {reason}")

    mark = fingerprint(path)
    asked = _asked(wanted, settings, planned)
    identity = results.result_id(path, wanted.tasks, {"fingerprint": mark, "data": [task.data for task in planned.tasks], **asked})
    out = settings.out or (candidate.run.evaluations() if candidate.run else Path("results")) / identity
    results.check_writable(out)

    model = local.load(path, "reward" if candidate.is_reward_model else "language", dtype, where)
    bench = Bench(path, mark, model, settings.chat, settings.seed)
    scores: dict[str, TaskScore] = {}
    samples: dict[str, list[Sample]] = {}
    start = time.perf_counter()
    with progress() as watch:
        for task in planned.tasks:
            scores[task.name], samples[task.name] = _measure(task, bench, watch)
    seconds = time.perf_counter() - start

    stage = checkpoint.read_stage(path)
    everything = [sample for lines in samples.values() for sample in lines]
    result = Result(
        id=identity,
        model=ModelRecord(path=str(path), fingerprint=mark, dtype=settings.dtype, stage=stage.stage if stage else None),
        tasks=scores,
        speed=Speed(
            seconds=seconds,
            questions_per_s=len(everything) / seconds,
            tokens_computed=model.tokens_computed,
            tokens_reused=model.tokens_reused,
            peak_memory_bytes=results.peak_memory(str(where)),
        ),
        environment=results.environment(threads, str(where)),
        seed=settings.seed,
        settings=asked,
        left_out=planned.left_out,
    )
    results.write(out, result, samples, settings.log_prompts)
    return Evaluated(result, out, sum(sample.reason == LOST for sample in everything))


def _measure(task: Task, bench: Bench, watch: Watch) -> tuple[TaskScore, list[Sample]]:
    names = list(task.methods) if isinstance(task, ChoiceTask) else [task.kind]
    advance = watch(task.name, len(task.items) * len(names), 0)
    samples: list[Sample] = []
    found: dict[str, MethodScore] = {}
    facts: dict[str, Any] = {}
    for name in names:
        done: dict[str, Sample] = {}

        def keep(batch: Sequence[Sample], done: dict[str, Sample] = done) -> None:
            done.update((sample.item.id, sample) for sample in batch)
            advance(len(batch))

        facts |= method(name).measure(task, task.items, bench, Record({item.id for item in task.items}, keep))
        own = [done.get(item.id) or Sample(item, name, reason=LOST) for item in task.items]
        found[name] = method(name).score(task, own)
        samples += own
    if isinstance(task, ChoiceTask):
        facts |= {
            "protocol": task.protocol.name,
            "shots": task.shots,
            "shots_used": (found[names[0]].model_extra or {})["shots_used"],
            "chat": bench.chat,
            "chance": chance(task.items),
            "majority": majority(task.items, task.protocol.official),
            "approximate": task.protocol.approximate,
            "data_notes": task.notes,
        }
    else:
        facts["chat"] = not isinstance(task, TextTask)
    return TaskScore(kind=task.kind, data=task.data, methods=found, unscored_reasons=reasons(samples), **facts), samples


def _asked(wanted: Wanted, settings: Settings, planned: Plan) -> dict[str, Any]:
    """The settings that a number depends on."""
    asked = dataclasses.asdict(wanted) | {"dtype": settings.dtype, "device": settings.device, "chat": settings.chat, "seed": settings.seed}
    asked["data"] = str(wanted.data) if wanted.data else None
    asked["measured"] = [task.name for task in planned.tasks]
    return asked
