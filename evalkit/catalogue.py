"""What can be asked: every benchmark with its protocols, and the kinds of task of one's own."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from evalkit.planning import BENCHMARKS, CHOICE_METHODS

if TYPE_CHECKING:
    from rich.table import Table

    from evalkit.protocol import Protocol

KINDS = {
    "choice": "multiple choice in MMLU's CSV layout",
    "answer": "greedy chat answers with known alternatives",
    "pairs": "preference pairs, for reward models",
    "reward": "sampled replies under a reward model, beside a reference checkpoint",
    "text": "texts to predict: bits per byte",
}
"""The ``kind`` of a task.yaml → what it is."""


def table() -> Table:
    """One row for each protocol; a star marks the one that a benchmark's name alone means."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    made = Table("task", "default methods", "further", "shots", "average", "asks", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name, protocols in BENCHMARKS.items():
        known: dict[str, Protocol] = import_module(f"evalkit.tasks.{name}").PROTOCOLS
        for place, (protocol, about) in enumerate(protocols.items()):
            its = known[protocol]
            further = [method for method in its.allows if method not in its.methods]
            made.add_row(
                f"{name}@{protocol}{'' if place else '*'}", ", ".join(its.methods), ", ".join(further), str(its.shots), its.official, about
            )
    for kind, about in KINDS.items():
        made.add_row(
            f"task.yaml, kind: {kind}", *(("letters", ", ".join(CHOICE_METHODS[1:])) if kind == "choice" else (kind, "")), "", "", about
        )
    return made
