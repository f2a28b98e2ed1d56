"""What resuming a stage needs, as safetensors and JSON: written atomically with the hash of every file, the newest whole one read back."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelkit import atomic
from modelkit.errors import UserError
from modelkit.fingerprint import sha256_of_file, sha256_of_text
from trainers.strategies.tensors import own_state

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from trainers.loop import StageLoop
    from trainers.optimiser import Optimiser

BEST = "best"
"""Beside the states: the weights of the lowest evaluation loss."""
_DAMAGE = (OSError, ValueError, TypeError, KeyError, AttributeError)
"""What reading a damaged state may raise."""


def save(stage: StageLoop, step: int, counters: dict[str, Any], folder: Path) -> None:
    """Write ``step-NNNNNN/`` with the stage's trained tensors, optimizers and counters; drop all but the last few.

    :raises OSError: when the disk is full; the states before are as they were.
    """
    _write(stage, folder / f"step-{step:06d}", {"step": step, "counters": counters}, stage.optimisers)
    if stage.strategy.rank == 0:
        for old in sorted(folder.glob("step-*"))[: -stage.settings.keep_last]:
            shutil.rmtree(old)
    stage.strategy.barrier()


def save_best(stage: StageLoop, step: int, folder: Path) -> None:
    """Keep the stage's present weights as :data:`BEST`, instead of those kept before.

    :raises OSError: when the disk is full; those are as they were.
    """
    _write(stage, folder / BEST, {"step": step}, {})


def load_best(stage: StageLoop, folder: Path) -> None:
    """Put the weights kept as :data:`BEST` back into the stage.

    :raises UserError: when they are damaged.
    """
    try:
        _checked(folder / BEST)
    except _DAMAGE as error:
        raise UserError(f"the best weights of {stage.name} are damaged ({error}): delete {folder} to train the stage again.") from None
    _load_modules(stage, folder / BEST)


def resume(stage: StageLoop, folder: Path) -> tuple[int, dict[str, Any]] | None:
    """Load the newest state into the stage; ``None`` when there is none. A damaged state falls back to the one before."""
    if stage.strategy.rank == 0:
        atomic.sweep(folder)
    stage.strategy.barrier()
    for state in sorted(folder.glob("step-*"), reverse=True):
        try:
            numbers = _checked(state)
        except _DAMAGE as error:
            print(f"warning: {state} is damaged ({error}); going back to the state before it, or else to the start")
            continue
        _load_modules(stage, state)
        for name, optimiser in stage.optimisers.items():
            optimiser.load(numbers["optimisers"][name])
            stage.strategy.load_tensors(state / f"{name}.optimiser", optimiser.place)
        return numbers["step"], numbers["counters"]
    return None


def _write(stage: StageLoop, target: Path, numbers: dict[str, Any], optimisers: dict[str, Optimiser]) -> None:
    """All ranks write *target* together; it appears when whole, with the hash of every file in its ``state.json``."""
    strategy = stage.strategy
    (writer,) = strategy.sum([float(os.getpid()) if strategy.rank == 0 else 0.0])
    content: dict[str, Any] = {**numbers, "optimisers": {}}
    with _whole_or_not(target, strategy.rank == 0), atomic.os_errors(target):
        strategy.barrier()
        beside = atomic.beside_of(target, int(writer))
        for name, module in stage.modules.items():
            strategy.save_tensors(_trained(module), beside / name)
        for name, optimiser in optimisers.items():
            tensors, content["optimisers"][name] = optimiser.state()
            strategy.save_tensors(tensors, beside / f"{name}.optimiser")
        strategy.barrier()
        if strategy.rank == 0:
            files = sorted(file for file in beside.rglob("*") if file.is_file())
            content["files"] = {str(file.relative_to(beside)): sha256_of_file(file) for file in files}
            digest = sha256_of_text(json.dumps(content, sort_keys=True))
            (beside / "state.json").write_text(json.dumps({"sha256": digest, **content}), encoding="utf-8")
    strategy.barrier()


def _load_modules(stage: StageLoop, state: Path) -> None:
    """Put the weights kept in *state* into the stage's modules."""
    for name, module in stage.modules.items():
        own = _trained(module)

        def place(key: str, size: torch.Size, dtype: torch.dtype, own: dict[str, Tensor] = own) -> Tensor | None:
            return own[key]

        stage.strategy.load_tensors(state / name, place)


def _trained(module: nn.Module) -> dict[str, Tensor]:
    """What training changes: all tensors of a module that is trained in full, the adapters and heads of one with frozen weights."""
    frozen = any(not parameter.requires_grad for parameter in module.parameters())
    learnt = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    return {name: tensor.detach() for name, tensor in own_state(module).items() if not frozen or name in learnt}


def _checked(state: Path) -> dict[str, Any]:
    """The numbers of a state all of whose files are as they were written.

    :raises ValueError: (or OSError, KeyError, …) when one isn't.
    """
    numbers = json.loads((state / "state.json").read_text(encoding="utf-8"))
    if numbers.pop("sha256") != sha256_of_text(json.dumps(numbers, sort_keys=True)):
        raise ValueError("state.json is not as it was written")
    for name, digest in numbers["files"].items():
        if sha256_of_file(state / name) != digest:
            raise ValueError(f"{name} is not as it was written")
    return numbers


@contextmanager
def _whole_or_not(target: Path, writes: bool) -> Iterator[None]:
    """On rank 0, make *target* appear when the block is done; the others write into the same directory meanwhile."""
    if not writes:
        yield
        return
    with atomic.directory(target):
        yield
