"""One method on one task, from the items to the score, as a command does it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evalkit.bench import Bench
from evalkit.methods import Method, Record
from evalkit.types import Sample, Task
from modelkit.records import MethodScore


@dataclass(frozen=True)
class Measured:
    """What one method found on one task."""

    score: MethodScore
    samples: list[Sample]
    facts: dict[str, Any]


def measured(module: Method, task: Task, bench: Bench) -> Measured:
    """Measure every item of *task* with a method's module; every item is recorded exactly once."""
    found: dict[str, Sample] = {}

    def keep(samples: Sequence[Sample]) -> None:
        found.update((sample.item.id, sample) for sample in samples)

    facts = module.measure(task, task.items, bench, Record({item.id for item in task.items}, keep))
    samples = [found[item.id] for item in task.items]
    return Measured(module.score(task, samples), samples, facts)
