"""Best-fit decreasing, against the obvious quadratic version."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainers.data.packing import best_fit_decreasing, padding

CAPACITY = 50


def obvious(lengths: list[int], capacity: int) -> list[list[int]]:
    bins: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        rooms = [(capacity - sum(lengths[i] for i in one), at) for at, one in enumerate(bins)]
        fitting = [(room, at) for room, at in rooms if room >= lengths[index]]
        if fitting:
            bins[min(fitting)[1]].append(index)
        else:
            bins.append([index])
    return bins


@given(st.lists(st.integers(1, CAPACITY), max_size=60))
def test_packing_equals_the_obvious_version(lengths: list[int]) -> None:
    assert best_fit_decreasing(lengths, CAPACITY) == obvious(lengths, CAPACITY)


@given(st.lists(st.integers(1, CAPACITY), min_size=1, max_size=200))
def test_every_sequence_lies_in_one_row_that_holds_it(lengths: list[int]) -> None:
    rows = best_fit_decreasing(lengths, CAPACITY)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in row) <= CAPACITY for row in rows)


def test_rows_are_nearly_full_where_lengths_vary() -> None:
    draw = random.Random(0)
    lengths = [min(1024, 1 + int(draw.expovariate(1 / 150))) for _ in range(20_000)]
    assert padding(best_fit_decreasing(lengths, 1024), lengths, 1024) < 0.005


@pytest.mark.parametrize("length", [0, 51])
def test_what_fits_nowhere_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        best_fit_decreasing([5, length], CAPACITY)
