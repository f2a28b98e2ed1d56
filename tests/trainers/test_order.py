"""Data order is a function of (seed, step): resuming anywhere gives the same steps."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelkit.errors import UserError
from trainers.data.order import epoch_of, hold_out, hold_out_whole, microbatches, staged, steps
from trainers.seeds import derive
from trainers.strategies.ranks import shares

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=30)


@given(LENGTHS, st.integers(1, 150), st.integers(0, 20))
def test_steps_from_the_middle_equal_those_of_the_whole(lengths: list[int], tokens: int, start: int) -> None:
    whole = list(islice(steps(lengths, tokens, 1, "x"), start + 5))
    assert list(islice(steps(lengths, tokens, 1, "x", start=start), 5)) == whole[start:]


def test_every_epoch_holds_every_example_once() -> None:
    flat = [i for step in islice(steps([10] * 12, 40, 0, "x"), 6) for i in step]
    assert sorted(flat[:12]) == sorted(flat[12:24]) == list(range(12))
    assert flat[:12] != flat[12:24]


@given(LENGTHS, st.integers(1, 400))
def test_microbatches_split_a_step_without_loss(lengths: list[int], tokens: int) -> None:
    batches = list(microbatches(range(len(lengths)), lengths, tokens))
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert all(len(batch) == 1 or max(lengths[i] for i in batch) * len(batch) <= tokens for batch in batches)


def test_a_curriculum_lets_examples_join_at_their_share_of_the_steps() -> None:
    lengths, starts = [10] * 8, [0.0] * 4 + [0.5] * 4
    whole = list(staged(lengths, starts, 20, 20, 0, "x"))
    assert len(whole) == 20
    assert all(max(step) < 4 for step in whole[:10])
    assert any(max(step) >= 4 for step in whole[10:])
    for start in (3, 10, 14):
        assert list(staged(lengths, starts, 20, 20, 0, "x", start=start)) == whole[start:]


def test_a_curriculum_that_nothing_begins_is_refused() -> None:
    with pytest.raises(UserError, match="the first steps have no row"):
        next(staged([10] * 4, [0.5] * 4, 20, 20, 0, "x"))


def test_hold_out_is_fixed_by_the_seed_and_loses_nothing() -> None:
    training, held = hold_out(list(range(50)), 0.1, 3, "x")
    assert len(held) == 5
    assert sorted(training + held) == list(range(50))
    assert hold_out(list(range(50)), 0.1, 3, "x") == (training, held) != hold_out(list(range(50)), 0.1, 4, "x")
    assert hold_out([1, 2], 0, 0, "x") == ([1, 2], [])


def test_what_has_one_owner_is_held_out_together() -> None:
    owners = [i // 3 for i in range(60)]
    training, held = hold_out_whole(list(range(60)), owners, 0.1, 3, "x")
    assert len(held) == 6
    assert not {owners[i] for i in training} & {owners[i] for i in held}
    assert hold_out_whole(list("abcdefgh"), range(8), 0.3, 3, "x") == hold_out(list("abcdefgh"), 0.3, 3, "x")


def test_holding_out_everything_is_refused() -> None:
    with pytest.raises(UserError, match="held_out: 0.9 of 4 rows is all of them"):
        hold_out([1, 2, 3, 4], 0.9, 0, "x")
    assert hold_out([1, 2, 3, 4], 1, 0, "x") == ([], [1, 2, 3, 4])


def test_seeds_for_different_purposes_differ() -> None:
    assert len({derive(0, "a", 1), derive(0, "a", 2), derive(0, "b", 1), derive(1, "a", 1), derive(0, "a1")}) == 5


@pytest.mark.parametrize("ranks", [1, 2, 4])
@given(LENGTHS, st.integers(20, 300))
def test_ranks_share_one_global_order(ranks: int, lengths: list[int], tokens: int) -> None:
    for step in islice(steps(lengths, tokens, 5, "x"), 4):
        parts = shares(step, [lengths[i] for i in step], ranks)
        assert sorted(i for part in parts for i in part) == sorted(step)
        assert all(i in rest for part in parts for rest in [iter(step)] for i in part), "each part keeps the order"


def test_weights_say_how_often_an_epoch_holds_an_example() -> None:
    weights = [1.0] * 4 + [2.0] * 3 + [0.25] * 8 + [1.5] * 2
    epochs = [Counter(epoch_of(weights, epoch, 7, "x")) for epoch in range(4)]
    assert [{epoch[i] for epoch in epochs} for i in (0, 4)] == [{1}, {2}]
    assert all(sum(epoch[i] for i in range(7, 15)) == 2 for epoch in epochs)
    together = sum(epochs, Counter())
    assert [together[i] for i in range(7, 15)] == [1] * 8, "a fraction takes turns: none comes again before all have been"
    assert [together[i] for i in (15, 16)] == [6, 6]


@given(st.lists(st.sampled_from([0.3, 1.0, 1.7, 2.0]), min_size=1, max_size=25), st.integers(0, 12))
def test_mixed_steps_from_the_middle_equal_those_of_the_whole(weights: list[float], start: int) -> None:
    lengths = [10 + i for i in range(len(weights))]
    whole = list(islice(steps(lengths, 40, 1, "x", weights=weights), start + 3))
    assert list(islice(steps(lengths, 40, 1, "x", start, weights), 3)) == whole[start:]


def test_equal_weights_change_nothing() -> None:
    assert list(islice(steps([10] * 9, 30, 2, "x", weights=[1.0] * 9), 12)) == list(islice(steps([10] * 9, 30, 2, "x"), 12))
    staged_so = [list(staged([10] * 9, [0.0] * 9, 12, 30, 2, "x", weights=weights)) for weights in (None, [1.0] * 9)]
    assert staged_so[0] == staged_so[1]
