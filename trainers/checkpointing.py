"""What resuming a stage needs, as safetensors and JSON: written atomically, the last two kept, the newest whole one read back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelkit import atomic

if TYPE_CHECKING:
    from trainers.loop import StageLoop

_KEPT = 2


def save(stage: StageLoop, step: int, counters: dict[str, Any], folder: Path) -> None:
    """Write ``step-NNNNNN/`` with the stage's modules, optimizers and counters; drop all but the last two."""
    from safetensors.torch import save_file

    numbers: dict[str, Any] = {"step": step, "counters": counters, "optimisers": {}}
    with atomic.directory(folder / f"step-{step:06d}") as beside:
        for name, module in stage.modules.items():
            save_file({key: value.contiguous() for key, value in _own_state(module).items()}, beside / f"{name}.safetensors")
        for name, optimiser in stage.optimisers.items():
            tensors, numbers["optimisers"][name] = optimiser.state()
            save_file(tensors, beside / f"{name}.optimiser.safetensors")
        (beside / "state.json").write_text(json.dumps(numbers), encoding="utf-8")
    for old in sorted(folder.glob("step-*"))[:-_KEPT]:
        shutil.rmtree(old)


def resume(stage: StageLoop, folder: Path) -> tuple[int, dict[str, Any]] | None:
    """Load the newest state into the stage; ``None`` when there is none. A damaged state falls back to the one before."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    atomic.sweep(folder)
    for state in sorted(folder.glob("step-*"), reverse=True):
        try:
            numbers = json.loads((state / "state.json").read_text(encoding="utf-8"))
            modules = {name: load_file(state / f"{name}.safetensors") for name in stage.modules}
            optimisers = {name: load_file(state / f"{name}.optimiser.safetensors") for name in stage.optimisers}
        except (OSError, ValueError, SafetensorError) as error:
            print(f"warning: {state} is damaged ({error}); going back to the state before it")
            continue
        for name, module in stage.modules.items():
            module.load_state_dict(modules[name], strict=False)
        for name, optimiser in stage.optimisers.items():
            optimiser.load(optimisers[name], numbers["optimisers"][name])
        return numbers["step"], numbers["counters"]
    return None


def _own_state(module: Any) -> dict[str, Any]:
    """A module's state without tensors that are another one's alias (tied embeddings)."""
    own: dict[int, tuple[str, Any]] = {}
    for key, value in module.state_dict().items():
        own.setdefault(value.data_ptr(), (key, value))
    return dict(own.values())
