"""Who meets whom on which prompt."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Literal

from modelkit.errors import UserError

Schedule = Literal["round-robin", "sparse"]
SCHEDULES: tuple[Schedule, ...] = ("round-robin", "sparse")
Pair = tuple[str, str]


def pairs(names: Sequence[str], prompts: int, schedule: Schedule, baseline: str | None = None) -> list[list[Pair]]:
    """The pairs of *names* that are compared on each of so many *prompts*.

    ``round-robin``: all, on every prompt. ``sparse``: a round of a tournament on each, by the circle method, in which everybody
    meets one other; as many rounds as there are contestants, less one, bring every pair together once. So n contestants take n / 2
    comparisons a prompt instead of n (n − 1) / 2.

    :param baseline: the one that all others meet, and nobody else, on every prompt.
    :raises UserError: for fewer than two contestants, or a baseline that is none of them.
    """
    if len(names) < 2:
        raise UserError("a battle needs two contestants: give -m at least twice, or name a run.")
    if baseline is not None:
        if baseline not in names:
            raise UserError(f"--baseline {baseline} is no contestant: they are {', '.join(names)}.")
        return [[(name, baseline) for name in names if name != baseline]] * prompts
    if schedule == "round-robin":
        return [list(combinations(names, 2))] * prompts
    rounds = _rounds(names)
    return [rounds[i % len(rounds)] for i in range(prompts)]


def _rounds(names: Sequence[str]) -> list[list[Pair]]:
    """A whole tournament's rounds; with an odd number of contestants one rests in each."""
    circle: list[str | None] = [*names, *([None] if len(names) % 2 else [])]
    rounds = []
    for _ in range(len(circle) - 1):
        half = len(circle) // 2
        facing = zip(circle[:half], reversed(circle[half:]), strict=True)
        rounds.append([(a, b) for a, b in facing if a is not None and b is not None])
        circle = [circle[0], circle[-1], *circle[1:-1]]
    return rounds
