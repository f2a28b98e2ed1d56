"""Averages and their 95 % intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypedDict

Interval = tuple[float, float]


class Accuracy(TypedDict):
    """Shares of right answers over all questions (micro), as the mean of the subjects' shares (macro), and by subject."""

    micro: float
    macro: float
    subjects: dict[str, float]


def choice_accuracy(predictions: Sequence[str], references: Sequence[str], subjects: Sequence[str]) -> Accuracy:
    """Accuracy over questions and over subjects; the three sequences are parallel and not empty."""
    right: dict[str, list[bool]] = {}
    for prediction, reference, subject in zip(predictions, references, subjects, strict=True):
        right.setdefault(subject, []).append(prediction == reference)
    shares = {subject: sum(answers) / len(answers) for subject, answers in right.items()}
    return {
        "micro": sum(map(sum, right.values())) / len(predictions),
        "macro": sum(shares.values()) / len(shares),
        "subjects": shares,
    }


def wilson(successes: float, n: int) -> Interval:
    """Wilson's score interval of a share, 95 % (Wilson 1927, eq. 4 of Brown, Cai & DasGupta 2001).

    *successes* may be fractional, as when a tie counts half.
    """
    from scipy.stats import norm

    z = float(norm.ppf(0.975))
    share, weight = successes / n, z * z / n
    centre = (share + weight / 2) / (1 + weight)
    half = math.sqrt(share * (1 - share) * weight + weight * weight / 4) / (1 + weight)
    return max(0.0, centre - half), min(1.0, centre + half)


def macro_interval(right: Sequence[int], n: Sequence[int]) -> Interval:
    """Normal 95 % interval of the mean of the subjects' shares, each subject a sample of its own.

    A subject's variance is taken at (right + 1) / (n + 2), so one that is all right doesn't count as certain.
    """
    from scipy.stats import norm

    value = sum(k / m for k, m in zip(right, n, strict=True)) / len(n)
    smooth = [(k + 1) / (m + 2) for k, m in zip(right, n, strict=True)]
    variance = sum(p * (1 - p) / m for p, m in zip(smooth, n, strict=True)) / len(n) ** 2
    half = float(norm.ppf(0.975)) * math.sqrt(variance)
    return max(0.0, value - half), min(1.0, value + half)


def mean_interval(values: Sequence[float]) -> Interval | None:
    """Student's 95 % interval of a mean; ``None`` for fewer than two values."""
    return ratio_interval(values, [1.0] * len(values))


def ratio_interval(numerators: Sequence[float], denominators: Sequence[float]) -> Interval | None:
    """95 % interval of Σ numerators / Σ denominators over independent items, by linearisation (Cochran 1977, eq. 6.13).

    ``None`` for fewer than two items. With denominators of 1 it is Student's interval of a mean.
    """
    from scipy.stats import t

    n = len(numerators)
    if n < 2:
        return None
    ratio = sum(numerators) / sum(denominators)
    residuals = [top - ratio * bottom for top, bottom in zip(numerators, denominators, strict=True)]
    error = math.sqrt(sum(residual**2 for residual in residuals) / (n - 1) / n) / (sum(denominators) / n)
    half = float(t.ppf(0.975, n - 1)) * error
    return ratio - half, ratio + half
