"""How a task is measured: one file per method, each with two functions.

``measure(task, items, bench, record)`` measures *items*, a part of the task, and hands their samples to *record* as soon as a
batch is finished, in any order. It returns facts worth keeping beside the score; they depend on the task and the model, never
on which items were left to do. ``score(task, samples)`` turns the samples of all items, in their order, into the score;
nothing it needs lives anywhere else than in them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from evalkit.bench import Bench
    from evalkit.types import Item, Sample
    from modelkit.records import MethodScore


class Record:
    """Takes finished samples. Those whose items are not in *todo* (any more) are dropped: somebody has measured them before.

    A method passes :meth:`wanted` on to the model, which plans its batches over all items, so that they are always the same,
    and computes those with something left to do.
    """

    def __init__(self, todo: set[str], keep: Callable[[Sequence[Sample]], None]) -> None:
        self._todo, self._keep = todo, keep

    def __call__(self, samples: Sequence[Sample]) -> None:
        """Keep what is new of *samples*."""
        fresh = [sample for sample in samples if sample.item.id in self._todo]
        self._todo -= {sample.item.id for sample in fresh}
        if fresh:
            self._keep(fresh)

    def wanted(self, items: Sequence[Item]) -> set[int]:
        """The places in *items* of those still to do."""
        return {place for place, item in enumerate(items) if item.id in self._todo}


class Method(Protocol):
    """What a module of this package offers."""

    def measure(self, task: Any, items: Sequence[Any], bench: Bench, record: Record) -> dict[str, Any]:
        """Measure *items*."""

    def score(self, task: Any, samples: Sequence[Sample]) -> MethodScore:
        """The score of all samples."""


def method(name: str) -> Method:
    """The module of a method; imported when it is needed."""
    return importlib.import_module(f"evalkit.methods.{name}")
