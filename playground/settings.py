"""What the page is started with: command line first, then environment variables, then defaults."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

from modelkit.errors import UserError
from playground.hosting.host import Host

if TYPE_CHECKING:
    from modelkit.generation.engine import Limits as EngineLimits
    from playground.models import Models

COLUMNS = 4
"""How many checkpoints answer side by side, at most."""
MAX_PROMPT_CHARACTERS = 8000
MAX_ROUNDS = 100
MAX_TOKENS = 512
MEMORY_GIB = 4
"""What the page's models may take together: little, since a training may be at work beside it."""
MAX_CANDIDATES = 16
"""Most samples that a reply may be picked from."""
UPLOAD_BYTES = 16 << 20
"""Most that a visitor may upload to train on."""

POCKET_RECIPE = Path(__file__).resolve().parent.parent / "recipes" / "pocket.yaml"


class Settings(BaseModel):
    """Resolved settings of one server process.

    ``runs`` is a run or a folder of runs; ``recipe`` is trained into ``runs/<recipe's name>`` when nothing can be chatted with
    (``None`` switches that off) by running ``trainer``; ``memory_bytes`` bounds the models kept loaded. ``endpoints`` are models
    served elsewhere (``TITLE=MODEL@URL``), whose key the environment variable ``endpoint_key_env`` holds. Visitors may
    order trainings, ``training`` of them at work at a time, on the files in ``data`` or on their own. A reply may have up to
    ``max_tokens`` tokens, an address may ask ``per_minute`` times (``None``: as often as is usual), and ``votes_dataset`` is where votes
    are kept beyond this machine.
    """

    runs: Path
    host: str = "127.0.0.1"
    port: int = 7860
    recipe: Path | None = POCKET_RECIPE
    trainer: tuple[str, ...] = (sys.executable, "-m", "trainers")
    memory_bytes: int = MEMORY_GIB << 30
    endpoints: tuple[str, ...] = ()
    endpoint_key_env: str | None = None
    max_tokens: int = MAX_TOKENS
    per_minute: int | None = None
    votes_dataset: str | None = None
    training: int = 0
    data: Path | None = None

    @property
    def training_run(self) -> Path | None:
        """Where the recipe is trained."""
        return self.runs / self.recipe.stem if self.recipe else None


def resolve(
    runs: Path | None,
    host: str | None,
    port: int | None,
    recipe: Path | None,
    endpoints: Sequence[str] = (),
    endpoint_key_env: str | None = None,
    memory_gib: float | None = None,
) -> Settings:
    """Fill in what the command line left open from ``PLAYGROUND_RUNS``, ``GRADIO_SERVER_NAME``, ``GRADIO_SERVER_PORT``,
    ``PLAYGROUND_MEMORY`` and ``PLAYGROUND_ENDPOINTS`` (several are separated by semicolons); ``PLAYGROUND_MAX_TOKENS``,
    ``PLAYGROUND_PER_MINUTE`` and ``PLAYGROUND_VOTES_DATASET`` alone say what concerns a public page.

    :raises UserError: when the runs or the recipe are not there, a number is none, or the port is in use.
    """
    named = runs or (Path(os.environ["PLAYGROUND_RUNS"]) if os.environ.get("PLAYGROUND_RUNS") else None)
    if named is not None and not named.is_dir():
        raise UserError(
            f"there is no directory {named}: name one that holds runs, or create it (mkdir -p {named}) to train the pocket run there."
        )
    if recipe is not None and not recipe.is_file():
        raise UserError(f"there is no recipe at {recipe}: check the path, or start with --no-train.")
    folder = named or Path("runs")
    folder.mkdir(parents=True, exist_ok=True)
    here = Host.here()
    settings = Settings(
        runs=folder.resolve(),
        host=host or os.environ.get("GRADIO_SERVER_NAME", here.address),
        port=port or _number("GRADIO_SERVER_PORT", 7860, 65535),
        recipe=recipe,
        memory_bytes=int((memory_gib or _number("PLAYGROUND_MEMORY", MEMORY_GIB, 1 << 20)) * 2**30),
        endpoints=tuple(endpoints or filter(None, map(str.strip, os.environ.get("PLAYGROUND_ENDPOINTS", "").split(";")))),
        endpoint_key_env=endpoint_key_env,
        max_tokens=_number("PLAYGROUND_MAX_TOKENS", here.longest or MAX_TOKENS, MAX_TOKENS),
        per_minute=_number("PLAYGROUND_PER_MINUTE", 0, 1_000_000) or None,
        votes_dataset=os.environ.get("PLAYGROUND_VOTES_DATASET") or None,
    )
    _check_port(settings.host, settings.port)
    return settings


def with_training(settings: Settings, at_once: int | None, data: Path | None) -> Settings:
    """The settings with what visitors may train: as given, else by ``PLAYGROUND_TRAINING`` (how many at a time) and ``PLAYGROUND_DATA``.

    On a Space, which anybody can open, they may train nothing.

    :raises UserError: when the variable holds no number, the data's folder is not there, or new runs would have no place.
    """
    given = os.environ.get("PLAYGROUND_TRAINING") or "0"
    if at_once is None and not given.isdigit():
        raise UserError(f"PLAYGROUND_TRAINING is {given!r}: give the number of trainings at a time, such as 1.")
    wanted = int(given) if at_once is None else at_once
    if wanted and Host.here().space:
        print("Trainings can't be ordered on a Space, which anybody can open: that stays off.", file=sys.stderr)
        wanted = 0
    folder = data or (Path(os.environ["PLAYGROUND_DATA"]) if os.environ.get("PLAYGROUND_DATA") else None)
    if folder is not None and not folder.is_dir():
        raise UserError(f"there is no directory {folder}: name the folder of the data files that visitors may train on.")
    if wanted and (settings.runs / "run.json").is_file():
        raise UserError(f"{settings.runs} is a single run, so new ones have no place: name the folder that it lies in with --runs.")
    return settings.model_copy(update={"training": wanted, "data": folder.resolve() if folder else None})


def _number(variable: str, usual: int, most: int) -> int:
    given = os.environ.get(variable) or str(usual)
    if not given.isdecimal() or not min(1, usual) <= int(given) <= most:
        raise UserError(f"{variable} is {given!r}: give a whole number from {min(1, usual)} to {most}.")
    return int(given)


def _check_port(host: str, port: int) -> None:
    listen(host, port).close()


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to an address of this machine (port 0: one that is free).

    :raises UserError: when there is no such address, or its port is in use.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (socket.gaierror, OverflowError):
        raise UserError(
            f"{host!r}, port {port}, is no address of this machine: use --host 127.0.0.1, or 0.0.0.0 for every interface."
        ) from None
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise UserError(f"port {port} on {host} can't be used ({error.strerror}): choose another with --port.") from None
    return listener


def engine_limits(cache_gib: float | None, rows: int | None) -> EngineLimits:
    """What each model's engine may take up: as given, else as usual.

    :param cache_gib: GiB of keys and values.
    :param rows: samples that are written at a time.
    """
    from modelkit.generation.engine import Limits

    cache_bytes = None if cache_gib is None else int(cache_gib * 2**30)
    return Limits(cache_bytes=cache_bytes) if rows is None else Limits(rows, cache_bytes=cache_bytes)


def open_models(
    names: Sequence[str],
    runs: Path | None,
    gib: float | None,
    dtype: str | None,
    device: str | None,
    idle_seconds: float | None = None,
    limits: EngineLimits | None = None,
) -> Models:
    """The registry of the checkpoints called *names* (directories, or names on the hub) and of all stages of *runs*; without either,
    of ``PLAYGROUND_RUNS`` or of ``runs``.

    :param gib: most that models may take; by default four fifths of the device's memory.
    :param idle_seconds: a model of the runs that is unused for so long is put away; ``None`` to keep it.
    :raises UserError: when there is nothing to open, or something isn't whole.
    """
    from modelkit import hub
    from modelkit.device import choose_device, dtype_of, set_threads
    from playground.models import Models
    from trainers.plan.machine import memory_here

    roots = [runs] if runs else [] if names else [Path(os.environ.get("PLAYGROUND_RUNS") or "runs")]
    missing = [root for root in roots if not root.is_dir()]
    if missing:
        raise UserError(f"there is no directory {missing[0]}: name a checkpoint with --model, or a folder of runs with --runs.")
    checkpoints = [hub.find(name, say=lambda line: print(line, file=sys.stderr)) for name in names]
    set_threads()
    here, kind = choose_device(device), dtype_of(dtype) if dtype else None
    budget = gib * 2**30 if gib else 0.8 * memory_here(None)[0]
    models = Models(roots, int(budget), idle_seconds, checkpoints, kind, here, limits=limits)
    if not models.catalogue():
        raise UserError(f"there is no checkpoint in {roots[0]}: train one with `trainers run`, or name one with --model.")
    return models
