"""Calibration against values computed by hand and against a slow twin."""

from __future__ import annotations

import math
import random

import pytest

from evalkit.calibration import brier, calibration, equal_mass, equal_width, expected_error, normalised


def scores(*shares: float) -> dict[str, float]:
    return {letter: math.log(share) for letter, share in zip("ABCD", shares, strict=False)}


def test_letters_are_normalised_without_overflow_and_with_impossible_ones() -> None:
    assert normalised(scores(0.2, 0.1, 0.1)) == pytest.approx({"A": 0.5, "B": 0.25, "C": 0.25})
    assert normalised({"A": -2000.0, "B": -2000.0, "C": -math.inf}) == {"A": 0.5, "B": 0.5, "C": 0.0}


def test_expected_calibration_error_by_hand() -> None:
    sure = [(0.9, True), (0.9, False), (0.5, True), (0.5, True)]
    assert expected_error(equal_width(sure)) == pytest.approx(0.5 * 0.4 + 0.5 * 0.5)
    assert [(group["n"], group["accuracy"]) for group in equal_width(sure)] == [(2, 1.0), (2, 0.5)]
    assert expected_error(equal_mass(sure, bins=2)) == pytest.approx(expected_error(equal_width(sure)))


def test_a_bin_is_closed_above() -> None:
    assert [group["high"] for group in equal_width([(1 / 3, True), (1.0, True)], bins=3)] == pytest.approx([1 / 3, 1.0])
    assert equal_width([(0.2, True)], bins=5)[0]["high"] == pytest.approx(0.2)


def test_equal_mass_bins_differ_by_at_most_one_question() -> None:
    sizes = [group["n"] for group in equal_mass([(share / 100, True) for share in range(100)])]
    assert (len(sizes), sum(sizes), max(sizes) - min(sizes)) == (15, 100, 1)
    assert len(equal_mass([(0.5, True), (0.6, False)])) == 2


def test_equal_width_bins_are_those_of_the_definition() -> None:
    draw = random.Random(0)
    sure = [(draw.uniform(0.25, 1), draw.random() < 0.5) for _ in range(500)]
    slow = 0.0
    for m in range(1, 16):
        group = [one for one in sure if (m - 1) / 15 < one[0] <= m / 15]
        if group:
            slow += abs(sum(right for _, right in group) - sum(share for share, _ in group)) / len(sure)
    assert expected_error(equal_width(sure)) == pytest.approx(slow)


def test_brier_score_by_hand() -> None:
    assert brier({"A": 1.0, "B": 0.0}, "A") == 0.0
    assert brier({"A": 1.0, "B": 0.0}, "B") == 2.0
    assert brier({"A": 0.5, "B": 0.25, "C": 0.25}, "B") == pytest.approx(0.25 + 0.5625 + 0.0625)


def test_a_whole_calibration_says_what_its_parts_say() -> None:
    found = calibration([(scores(0.7, 0.1, 0.1, 0.1), "A"), (scores(0.1, 0.7, 0.1, 0.1), "A")])
    assert found is not None
    assert (found["n"], len(found["bins"])) == (2, 1)
    assert found["confidence"] == pytest.approx(0.7)
    assert found["ece"] == pytest.approx(0.2)
    assert found["brier"] == pytest.approx(((0.09 + 0.03) + (0.81 + 0.49 + 0.02)) / 2)
    assert calibration([]) is None


def test_the_first_among_equal_letters_is_the_answer() -> None:
    found = calibration([(scores(0.25, 0.25, 0.25, 0.25), "A"), (scores(0.25, 0.25, 0.25, 0.25), "B")])
    assert found is not None
    assert found["bins"][0]["accuracy"] == 0.5
