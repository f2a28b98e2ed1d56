"""How a task is measured: one file per method, each with two functions.

``measure(task, items, bench, record)`` measures *items*, those of the task that are still to do, and hands their samples to
*record* as soon as a batch is finished, in any order. It returns facts worth keeping beside the score; they depend on the task
and the model, never on which items were left to do. ``score(task, samples)`` turns the samples of all items, in their order,
into the score; nothing it needs lives anywhere else than in them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from evalkit.bench import Bench
    from evalkit.types import Sample
    from modelkit.records import MethodScore

Record = Callable[[Sequence["Sample"]], None]


class Method(Protocol):
    """What a module of this package offers."""

    def measure(self, task: Any, items: Sequence[Any], bench: Bench, record: Record) -> dict[str, Any]:
        """Measure *items*."""

    def score(self, task: Any, samples: Sequence[Sample]) -> MethodScore:
        """The score of all samples."""


def method(name: str) -> Method:
    """The module of a method; imported when it is needed."""
    return importlib.import_module(f"evalkit.methods.{name}")
