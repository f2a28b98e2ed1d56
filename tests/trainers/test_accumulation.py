"""A step's gradient doesn't know into how many parts the step was divided: to a millionth it is that of the whole batch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.trainers import stages_of_a_rank as ranks
from tests.trainers.conftest import World
from trainers.optimiser import Optimiser


def first_gradients(name: str, world: World, micro_tokens: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """What each optimizer of a stage is given first, computed in double precision, so that nothing but a wrong weight can differ."""
    stage = ranks.make(name, world, micro_tokens=micro_tokens)
    for module in stage.modules.values():
        module.double()
    found: dict[str, Tensor] = {}
    names = {id(optimiser): key for key, optimiser in stage.optimisers.items()}

    def step(optimiser: Optimiser, divide_by: float = 1.0) -> dict[str, float]:
        whole = torch.cat([p.grad.flatten() for p in optimiser.parameters if p.grad is not None]) / divide_by
        found.setdefault(names[id(optimiser)], whole)
        return {"lr": 0.0, "grad_norm": 0.0}

    monkeypatch.setattr(Optimiser, "step", step)
    stage.begin(0)
    stage.step(0)
    return found


@pytest.mark.parametrize("name", [name for name in ranks.STAGES if name != "ppo-shared"])
def test_accumulated_gradients_are_those_of_the_whole_batch(name: str, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    parts, whole = (first_gradients(name, world, micro_tokens, monkeypatch) for micro_tokens in (1, 100_000))
    assert parts.keys() == whole.keys()
    for key, expected in whole.items():
        assert float((parts[key] - expected).abs().max()) <= 1e-6 * float(expected.abs().max()), key
