"""Averages and intervals against other implementations and against simulation."""

from __future__ import annotations

import random
import statistics

import pytest
from scipy.stats import binomtest, bootstrap, t

from evalkit.statistics import (
    chance_normalised,
    holm,
    macro_interval,
    mcnemar,
    mean_interval,
    paired_interval,
    ratio_interval,
    wilson,
)


@pytest.mark.parametrize(("right", "n"), [(0, 7), (7, 7), (3, 10), (141, 571), (1, 1)])
def test_wilson_interval_is_that_of_scipy(right: int, n: int) -> None:
    expected = binomtest(right, n).proportion_ci(method="wilson")
    assert wilson(right, n) == pytest.approx((expected.low, expected.high))


def test_wilson_interval_takes_half_wins() -> None:
    low, high = wilson(4.5, 9)
    assert low + high == pytest.approx(1.0)
    assert wilson(4, 9)[0] < low < wilson(5, 9)[0]


def test_mean_interval_is_students() -> None:
    values = [0.3, 1.4, -0.2, 2.0, 0.9]
    half = t.ppf(0.975, 4) * statistics.stdev(values) / 5**0.5
    assert mean_interval(values) == pytest.approx((statistics.fmean(values) - half, statistics.fmean(values) + half))
    assert mean_interval([1.0]) is None


def test_ratio_interval_covers_the_true_ratio_about_95_times_in_100() -> None:
    draw = random.Random(5)
    covered = 0
    for _ in range(400):
        sizes = [draw.uniform(50, 500) for _ in range(40)]
        low, high = ratio_interval([2.0 * size + draw.gauss(0, 60) for size in sizes], sizes) or (0, 0)
        covered += low <= 2.0 <= high
    assert 360 <= covered <= 395


def test_macro_interval_covers_the_true_mean_about_95_times_in_100() -> None:
    draw = random.Random(1)
    shares = [0.2, 0.5, 0.9, 0.35]
    covered = 0
    for _ in range(400):
        right = [sum(draw.random() < share for _ in range(30)) for share in shares]
        low, high = macro_interval(right, [30] * 4)
        covered += low <= statistics.fmean(shares) <= high
    assert 365 <= covered <= 397


def test_macro_interval_of_an_all_right_benchmark_is_not_a_point() -> None:
    low, high = macro_interval([5, 5], [5, 5])
    assert low < 1.0 == high


def test_chance_normalised_is_0_for_guessing_and_1_for_all_right() -> None:
    assert [chance_normalised(share, 0.25) for share in (0.25, 1.0, 0.625, 0.0)] == pytest.approx([0, 1, 0.5, -1 / 3])
    assert chance_normalised(1.0, 1.0) == 0.0


@pytest.mark.parametrize(("only_a", "only_b", "p"), [(0, 0, 1.0), (3, 3, 1.0), (0, 5, 2 / 32), (1, 5, 14 / 64), (2, 10, 158 / 4096)])
def test_mcnemar_is_the_exact_binomial_test_by_hand(only_a: int, only_b: int, p: float) -> None:
    assert mcnemar(only_a, only_b) == pytest.approx(p)
    assert mcnemar(only_b, only_a) == pytest.approx(p)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_paired_interval_is_that_of_scipys_bootstrap() -> None:
    draw = random.Random(3)
    differences = [draw.choices([-1.0, 0.0, 1.0], [1, 6, 3])[0] for _ in range(300)]
    twin = bootstrap((differences,), statistics.fmean, vectorized=False, method="percentile", n_resamples=4000, rng=1).confidence_interval
    assert paired_interval([differences]) == pytest.approx((twin.low, twin.high), abs=0.006)


def test_paired_interval_of_a_macro_average_resamples_within_the_subjects() -> None:
    draw = random.Random(4)
    groups = [[draw.gauss(mean, 1) for _ in range(size)] for mean, size in ((0.0, 200), (1.0, 20))]
    means = [statistics.fmean(statistics.fmean(draw.choices(group, k=len(group))) for group in groups) for _ in range(4000)]
    slow = statistics.quantiles(means, n=40)
    assert paired_interval(groups) == pytest.approx((slow[0], slow[-1]), abs=0.03)


def test_paired_interval_repeats_with_its_seed_and_differs_with_another() -> None:
    differences = [-1.0, 0.0, 1.0, 1.0, 0.5] * 7
    assert paired_interval([differences], seed=1) == paired_interval([differences], seed=1)
    assert paired_interval([differences], seed=1, resamples=99) != paired_interval([differences], seed=2, resamples=99)
    assert paired_interval([[0.0] * 5]) == (0.0, 0.0)
