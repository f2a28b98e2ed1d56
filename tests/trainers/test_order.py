"""Data order is a function of (seed, step): resuming anywhere gives the same steps."""

from __future__ import annotations

from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from trainers.data.order import hold_out, microbatches, staged, steps
from trainers.seeds import derive

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


def test_hold_out_is_fixed_by_the_seed_and_loses_nothing() -> None:
    training, held = hold_out(list(range(50)), 0.1, 3, "x")
    assert len(held) == 5
    assert sorted(training + held) == list(range(50))
    assert hold_out(list(range(50)), 0.1, 3, "x") == (training, held) != hold_out(list(range(50)), 0.1, 4, "x")
    assert hold_out([1, 2], 0, 0, "x") == ([1, 2], [])


def test_seeds_for_different_purposes_differ() -> None:
    assert len({derive(0, "a", 1), derive(0, "a", 2), derive(0, "b", 1), derive(1, "a", 1), derive(0, "a1")}) == 5
