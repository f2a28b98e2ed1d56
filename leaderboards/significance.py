"""Which numbers of a column can't be told from its best one."""

from __future__ import annotations

import math
from collections.abc import Sequence

from evalkit.statistics import holm
from modelkit.records import MethodScore

_Z = 1.959964


def near_best(scores: Sequence[MethodScore], best: float | None) -> list[bool]:
    """Whether each score is not significantly worse than *best* (two-sided z test at 5 %, Holm over the column).

    Standard errors are those of the 95 % intervals, and the two models count as independent samples. On the same questions they
    rarely are, so a real difference may be missed; ``evalkit compare`` pairs them question by question.
    """
    top = next((one for one in scores if one.value == best and one.ci95), None)
    if best is None or top is None:
        return [False] * len(scores)
    others = {k: _p(one, top) for k, one in enumerate(scores) if one.value is not None and one.ci95 and one.value != best}
    adjusted = dict(zip(others, holm(list(others.values())), strict=True))
    return [adjusted.get(k, 0.0) >= 0.05 for k in range(len(scores))]


def _p(one: MethodScore, other: MethodScore) -> float:
    assert one.value is not None
    assert other.value is not None
    error = math.hypot(_error(one), _error(other))
    return math.erfc(abs(one.value - other.value) / error / math.sqrt(2.0)) if error else 0.0


def _error(score: MethodScore) -> float:
    assert score.ci95 is not None
    return (score.ci95[1] - score.ci95[0]) / (2.0 * _Z)
