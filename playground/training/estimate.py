"""What a training will need, before it begins: ``trainers plan`` for each of its stages, as numbers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from modelkit.context import longest_sequence
from modelkit.errors import UserError
from trainers.recipe import Recipe

if TYPE_CHECKING:
    import torch

_LENGTH = 1024
"""Tokens that a row of somebody's data is taken to have, where the model's context allows so many."""


@dataclass(frozen=True)
class StageEstimate:
    """One stage: parameters, bytes on one device, seconds of all its steps at half of the rate measured here, and what fits.

    ``strategy`` is the one asked for, or the cheapest that fits; ``None`` when none does, and ``bytes`` are then the least there is.
    """

    stage: str
    parameters: int
    trained: int
    strategy: str | None
    bytes: float
    seconds: float


def estimate(recipe: Recipe, start: Path | None, strategy: str = "auto", processes: int = 1) -> list[StageEstimate]:
    """The stages in the order they are trained in. Small models spend most of a step on other things than arithmetic: they take longer.

    :raises UserError: when a stage can't be planned, or not with this strategy.
    """
    from modelkit.device import import_transformers

    import_transformers()
    from trainers.plan.estimate import plan
    from trainers.plan.footprint import read_config
    from trainers.plan.machine import memory_here
    from trainers.plan.requests import of_recipe

    context = longest_sequence(read_config(start)) if start else None
    limit, host = memory_here(None)
    found = []
    for stage, request in of_recipe(recipe, start, processes, min(_LENGTH, context or _LENGTH)).items():
        planned = plan(request)
        if strategy != "auto" and strategy not in planned.memory:
            raise UserError(f"{strategy} can't run with {processes} processes: choose one of auto, {', '.join(planned.memory)}.")
        possible = planned.memory if strategy == "auto" else {strategy: planned.memory[strategy]}
        fits = [name for name, memory in possible.items() if memory.device <= limit and memory.host <= host]
        taken = possible[fits[0]] if fits else min(possible.values(), key=lambda memory: memory.device)
        seconds = planned.seconds(_rate(request.dtype), processes) * recipe.stages[stage].steps
        found.append(StageEstimate(stage, planned.parameters, planned.trained, fits[0] if fits else None, taken.device, seconds))
    return found


@lru_cache
def _rate(dtype: torch.dtype) -> float:
    """Operations per second that a step reaches here."""
    from trainers.plan.estimate import EFFICIENCY, measured_rate
    from trainers.plan.machine import device_here

    return EFFICIENCY * measured_rate(device_here(), dtype)
