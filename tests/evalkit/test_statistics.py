"""Averages and intervals against other implementations and against simulation."""

from __future__ import annotations

import random
import statistics
from pathlib import Path

import pytest
from scipy.stats import binomtest, t

from evalkit.statistics import choice_accuracy, macro_interval, mean_interval, ratio_interval, wilson

METRIC = Path(__file__).parents[2] / "evalkit" / "metrics" / "choice_accuracy"


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


def test_micro_counts_questions_and_macro_counts_subjects() -> None:
    found = choice_accuracy("AAAAB", "AAAAA", ["big"] * 3 + ["small"] * 2)
    assert found == {"micro": 0.8, "macro": 0.75, "subjects": {"big": 1.0, "small": 0.5}}


def test_the_evaluate_module_gives_the_same_averages() -> None:
    evaluate = pytest.importorskip("evaluate")
    draw = random.Random(0)
    predictions, references, subjects = (draw.choices(pool, k=60) for pool in ("ABCD", "ABCD", ["law", "历史", "physics"]))
    found = evaluate.load(str(METRIC)).compute(predictions=predictions, references=references, subjects=subjects)
    assert found == choice_accuracy(predictions, references, subjects)
