"""Calibration: is a model that is 70 % sure right in 70 of 100 cases?

A question's probabilities are those of its letters, normalised to sum to one; *confidence* is the highest of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TypedDict

from evalkit.metrics.expected_calibration_error.formula import expected_calibration_error

BINS = 15


class Bin(TypedDict):
    """Questions of like confidence. ``low`` and ``high`` are the bin's bounds (equal width) or its extreme values (equal mass)."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


class Calibration(TypedDict):
    """``ece`` has bins of equal width, ``ece_equal_mass`` bins of equally many questions; ``bins`` are the former, empty ones left out."""

    n: int
    ece: float
    ece_equal_mass: float
    brier: float
    confidence: float
    bins: list[Bin]


def calibration(answers: Sequence[tuple[Mapping[str, float], str]]) -> Calibration | None:
    """Calibration of letter probabilities; ``None`` when there are no answers.

    :param answers: (natural-log scores by letter, the right letter) for each question.
    """
    if not answers:
        return None
    probabilities = [normalised(scores) for scores, _ in answers]
    sure = [_top(shares, gold) for shares, (_, gold) in zip(probabilities, answers, strict=True)]
    bins = equal_width(sure)
    return {
        "n": len(sure),
        "ece": expected_calibration_error([confidence for confidence, _ in sure], [right for _, right in sure], BINS),
        "ece_equal_mass": expected_error(equal_mass(sure)),
        "brier": sum(brier(shares, gold) for shares, (_, gold) in zip(probabilities, answers, strict=True)) / len(sure),
        "confidence": sum(confidence for confidence, _ in sure) / len(sure),
        "bins": bins,
    }


def normalised(scores: Mapping[str, float]) -> dict[str, float]:
    """Natural-log scores → probabilities that sum to one over these letters."""
    highest = max(scores.values())
    weights = {letter: math.exp(score - highest) if score > -math.inf else 0.0 for letter, score in scores.items()}
    total = sum(weights.values())
    return {letter: weight / total for letter, weight in weights.items()}


def brier(probabilities: Mapping[str, float], gold: str) -> float:
    """Σ over the letters of (p − 1[letter is right])², from 0 (certain and right) to 2 (certain and wrong) (Brier 1950)."""
    return sum((share - (letter == gold)) ** 2 for letter, share in probabilities.items())


def expected_error(bins: Sequence[Bin]) -> float:
    """Expected calibration error: Σ (questions of the bin / all) · |accuracy − confidence| (Guo et al. 2017, eq. 3)."""
    total = sum(group["n"] for group in bins)
    return sum(group["n"] / total * abs(group["accuracy"] - group["confidence"]) for group in bins)


def equal_width(sure: Sequence[tuple[float, bool]], bins: int = BINS) -> list[Bin]:
    """Questions by confidence in ((m−1)/bins, m/bins], as Guo et al. 2017 divide them; empty bins are left out.

    :param sure: (confidence, whether right) for each question.
    """
    groups: dict[int, list[tuple[float, bool]]] = {}
    for one in sure:
        groups.setdefault(max(0, math.ceil(one[0] * bins) - 1), []).append(one)
    return [_bin(groups[m], m / bins, (m + 1) / bins) for m in sorted(groups)]


def equal_mass(sure: Sequence[tuple[float, bool]], bins: int = BINS) -> list[Bin]:
    """Questions sorted by confidence and cut into groups whose sizes differ by at most one (Nguyen & O'Connor 2015)."""
    ranked = sorted(sure)
    bins = min(bins, len(ranked))
    cuts = [len(ranked) * m // bins for m in range(bins + 1)]
    groups = [ranked[start:end] for start, end in pairwise(cuts)]
    return [_bin(group, group[0][0], group[-1][0]) for group in groups]


def _top(probabilities: Mapping[str, float], gold: str) -> tuple[float, bool]:
    """(confidence, whether right); the first among equals is the answer, as in scoring."""
    letter = max(probabilities, key=probabilities.__getitem__)
    return probabilities[letter], letter == gold


def _bin(group: Sequence[tuple[float, bool]], low: float, high: float) -> Bin:
    confidence, right = (sum(values) / len(group) for values in zip(*group, strict=True))
    return {"low": low, "high": high, "n": len(group), "confidence": confidence, "accuracy": right}
