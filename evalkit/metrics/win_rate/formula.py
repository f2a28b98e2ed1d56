"""How often one side beats the other."""

from __future__ import annotations

from collections.abc import Sequence


def win_rate(scores: Sequence[float], opponents: Sequence[float]) -> dict[str, float]:
    """The share of comparisons won, a tie counting half.

    :param scores: one side's score in each comparison; *opponents* are the other side's.
    :returns: ``win_rate``, and the counts ``wins``, ``ties`` and ``losses``.
    """
    wins = sum(mine > theirs for mine, theirs in zip(scores, opponents, strict=True))
    ties = sum(mine == theirs for mine, theirs in zip(scores, opponents, strict=True))
    return {"win_rate": (wins + ties / 2) / len(scores), "wins": wins, "ties": ties, "losses": len(scores) - wins - ties}
