"""Batches: by length, and subtrees side by side in lines."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from modelkit.scoring.batches import Grid, by_length, in_lines
from modelkit.scoring.prefix_tree import Node, build


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(1, 200))
def test_batches_hold_every_index_once_within_the_budget(lengths: list[int], budget: int) -> None:
    batches = list(by_length(lengths, budget))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert all(len(batch) == 1 or max(lengths[i] for i in batch) * len(batch) <= budget for batch in batches)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(50, 400), st.integers(1, 100))
def test_lines_hold_every_subtree_once_within_the_budget(sizes: list[int], budget: int, width: int) -> None:
    units = [Node(i, 0, size, size=size) for i, size in enumerate(sizes)]
    batches = list(in_lines(units, budget, width))
    assert sorted(unit.sequence for batch in batches for line in batch for unit in line) == list(range(len(sizes)))
    for batch in batches:
        lengths = [sum(unit.size for unit in line) for line in batch]
        assert lengths[0] == max(lengths)
        assert len(batch) == 1 or len(batch) * lengths[0] <= budget
        assert all(len(line) == 1 or lengths[0] <= 2 * width for line in batch)


def test_a_token_sees_its_own_past_and_nothing_else() -> None:
    sequences = [[7, 8, 1], [7, 8, 2, 3], [9, 9]]
    roots = build(sequences, [[2], [3], [1]])
    grid = Grid.of([roots], sequences)
    assert grid.ids.tolist() == [[7, 8, 1, 2, 3, 9, 9]]
    assert grid.positions.tolist() == [[0, 1, 2, 2, 3, 0, 1]]
    assert grid.reads == [(0, 2, 0, 0), (0, 4, 1, 0), (0, 6, 2, 0)]
    assert not grid.chains
    past = [[0], [0, 1], [0, 1, 2], [0, 1, 3], [0, 1, 3, 4], [5], [5, 6]]
    expected = torch.tensor([[column in seen for column in range(7)] for seen in past])
    assert grid.visible(0)[0].equal(expected)
    assert grid.visible(2)[0, :, :2].all()
    assert grid.visible(2)[0, :, 2:].equal(expected)
