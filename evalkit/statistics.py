"""Averages with their 95 % intervals, and tests of whether two differ."""

from __future__ import annotations

import math
from collections.abc import Sequence

Interval = tuple[float, float]


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


def chance_normalised(value: float, chance: float) -> float:
    """How far a share lies between guessing (0) and all right (1); negative below guessing.

    :param chance: the share that guessing reaches, the mean over the questions of each one's own chance.
    """
    return (value - chance) / (1 - chance) if chance < 1 else 0.0


def mcnemar(only_a: int, only_b: int) -> float:
    """Two-sided exact p-value that two systems are equally often right on the same questions (McNemar 1947).

    :param only_a, only_b: questions that only the one or only the other answered right. Under the hypothesis each of these is
        a fair coin, so the test is a binomial one.
    """
    from scipy.stats import binomtest

    return float(binomtest(only_a, only_a + only_b, 0.5).pvalue) if only_a + only_b else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Step-down adjusted p-values, in the order given (Holm 1979): the chance of any false alarm among all of them is bounded."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def paired_interval(groups: Sequence[Sequence[float]], seed: int = 0, resamples: int = 10_000) -> Interval:
    """95 % percentile bootstrap interval of the mean, over groups, of each group's mean difference (Efron & Tibshirani 1993, §13.3).

    One group is a micro average; a group for each subject is a macro average, resampled within the subjects. Drawing *n* differences
    with replacement is drawing how often each different value occurs, which is multinomial; so it is drawn like that.

    :param groups: differences between two systems, question by question; no group is empty.
    """
    import numpy

    draw = numpy.random.default_rng(seed)
    means = numpy.zeros(resamples)
    for group in groups:
        values, counts = numpy.unique(numpy.asarray(group, dtype=float), return_counts=True)
        means += draw.multinomial(len(group), counts / len(group), size=resamples) @ values / len(group)
    low, high = numpy.quantile(means / len(groups), [0.025, 0.975])
    return float(low), float(high)
