"""A run's directory while something is trained in it: one trainer at a time, stopped cleanly, and nothing of another run in it."""

from __future__ import annotations

import fcntl
import json
import shutil
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from modelkit import atomic, checkpoint
from modelkit.errors import UserError
from modelkit.fingerprint import sha256_of_text
from modelkit.run import Run, RunInfo, Stage, StageKind
from trainers.data.dataset import changed
from trainers.log import Progress
from trainers.loop import Stopped

TITLES = {
    "base": {"en": "Base", "zh": "基座"},
    "sft": {"en": "SFT", "zh": "SFT 微调"},
    "rm": {"en": "Reward model", "zh": "奖励模型"},
    "critic": {"en": "Critic", "zh": "价值模型"},
    "rl": {"en": "RL (PPO)", "zh": "强化学习 (PPO)"},
    "dpo": {"en": "DPO", "zh": "DPO 偏好优化"},
    "kto": {"en": "KTO", "zh": "KTO 偏好优化"},
    "grpo": {"en": "RL (GRPO)", "zh": "强化学习 (GRPO)"},
}
_KINDS: dict[str, StageKind] = {"base": "base", "sft": "sft", "rm": "reward", "critic": "critic"}


def stage(name: str) -> Stage:
    """The entry of ``run.json`` for the stage called *name*."""
    return Stage(name=name, kind=_KINDS.get(name, "rl"), title=TITLES[name])


def digest(*parts: Any) -> str:
    """One sha256 for everything that a result depends on."""
    return sha256_of_text(json.dumps(parts, sort_keys=True))


def with_stages(folder: Path, names: list[str], seed: int) -> Run:
    """The run in *folder*, made or extended for the stages called *names*."""
    if (folder / "run.json").exists():
        found = Run.open(folder)
        present = {entry.name for entry in found.info.stages}
        missing = [stage(name) for name in names if name not in present]
        if not missing:
            return found
        return Run.create(folder, found.info.model_copy(update={"stages": [*found.info.stages, *missing]}))
    info = RunInfo(name=folder.resolve().name, recipe="by commands", languages=["en"], seed=seed, stages=[stage(name) for name in names])
    return Run.create(folder, info)


def claim(run: Run, name: str, wanted: str, settings: dict[str, Any], data: Path) -> bool:
    """Note that the stage *name* is made as *settings* say (their digest is *wanted*) of files in *data*; whether it still has to be.

    A stage that was begun otherwise, but has saved nothing yet, is begun anew.

    :raises UserError: when the run has, or is making, this stage in another way.
    """
    other = UserError(
        f"{run.checkpoint(name)} was made with other settings, data or checkpoints: choose another --out, or delete "
        f"{run.checkpoint(name)} and {run.state(name)}."
    )
    if run.checkpoint(name).is_dir():
        info = checkpoint.read_stage(run.checkpoint(name))
        if info is None or info.recipe != wanted:
            raise other
        same_data(run, name, data)
        return False
    note = run.state(name) / "settings.json"
    if note.exists() and json.loads(note.read_text(encoding="utf-8"))["sha256"] != wanted:
        if any(run.state(name).glob("step-*")):
            raise other
        shutil.rmtree(run.state(name))
    if not note.exists():
        atomic.write_json(note, {"sha256": wanted, **settings})
    return True


def same_data(run: Run, name: str, data: Path) -> None:
    """:raises UserError: when a file in *data* that the stage *name* was made of, and that is still there, was changed since."""
    info = checkpoint.read_stage(run.checkpoint(name))
    files = changed(info.data, data) if info else []
    if files:
        raise UserError(
            f"{data / files[0]} has changed since {run.checkpoint(name)} was made of it: restore it, choose another --out, "
            f"or delete {run.checkpoint(name)} and {run.state(name)}."
        )


def has_begun(folder: Path, names: Iterable[str]) -> bool:
    """Whether the run in *folder* has made anything of what *names* says, or saved a state on the way to it."""
    return any((folder / name).exists() for name in names) or any(folder.glob("state/*/step-*"))


@contextmanager
def watched(progress: Progress) -> Iterator[None]:
    """Run the block so that ``progress.json`` ends with what became of it: done, stopped or failed, and why."""
    try:
        with stoppable():
            yield
    except Stopped:
        progress.finish("stopped")
        raise
    except UserError as error:
        progress.finish("failed", str(error))
        raise
    except BaseException as error:
        progress.finish("failed", f"{type(error).__name__}: {error}")
        raise
    progress.finish("done")


@contextmanager
def stoppable() -> Iterator[None]:
    """Between training steps SIGTERM ends the block with :class:`Stopped`, as the training loop itself does within them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise Stopped

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run's lock, so that two trainers never write one run. The kernel lets go of it when the process ends."""
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another process is training {folder}: wait for it, stop it, or choose another --out.") from None
        yield
