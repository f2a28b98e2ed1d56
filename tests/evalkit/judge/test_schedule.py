"""Everybody meets whom they should, as often as they should."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import pytest

from evalkit.judge.schedule import pairs
from modelkit.errors import UserError

NAMES = ["a", "b", "c", "d", "e", "f"]


def test_round_robin_is_all_pairs_on_every_prompt() -> None:
    assert pairs(NAMES[:4], 2, "round-robin") == [list(combinations("abcd", 2))] * 2


@pytest.mark.parametrize("count", [2, 3, 4, 5, 6])
def test_a_sparse_schedule_brings_every_pair_together_equally_often(count: int) -> None:
    names = NAMES[:count]
    rounds = count - 1 if count % 2 == 0 else count
    found = pairs(names, 3 * rounds, "sparse")
    met = Counter(frozenset(pair) for one in found for pair in one)
    assert met == {frozenset(pair): 3 for pair in combinations(names, 2)}
    for one in found:
        playing = [name for pair in one for name in pair]
        assert len(playing) == len(set(playing)) == 2 * (count // 2)


def test_with_a_baseline_all_others_meet_it_alone() -> None:
    assert pairs(NAMES[:3], 1, "round-robin", baseline="b") == [[("a", "b"), ("c", "b")]]


def test_a_battle_needs_two_and_a_baseline_among_them() -> None:
    with pytest.raises(UserError, match="needs two contestants"):
        pairs(["a"], 1, "sparse")
    with pytest.raises(UserError, match="--baseline x is no contestant"):
        pairs(NAMES, 1, "sparse", baseline="x")
