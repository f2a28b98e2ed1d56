"""Sequences and subtrees of different lengths → rectangular batches of similar lengths under a token budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from modelkit.scoring.prefix_tree import Ids, Node


def by_length(lengths: Sequence[int], token_budget: int) -> Iterator[list[int]]:
    """Group indices so that ``rows × longest`` stays within *token_budget* (a longer single row forms its own batch)."""
    batch: list[int] = []
    longest = 0
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        longest = max(longest, lengths[index])
        if batch and longest * (len(batch) + 1) > token_budget:
            yield batch
            batch, longest = [], lengths[index]
        batch.append(index)
    if batch:
        yield batch


def right_pad(sequences: Sequence[Sequence[int]], device: torch.device | None = None) -> torch.Tensor:
    """Stack sequences into [rows, longest], zeros on the right.

    Under causal attention what stands to the right of a token cannot reach it, so such a batch needs no attention mask as long
    as nobody reads the padded positions.
    """
    batch = torch.zeros(len(sequences), max(map(len, sequences)), dtype=torch.long)
    for row, sequence in enumerate(sequences):
        batch[row, : len(sequence)] = torch.as_tensor(sequence)
    return batch.to(device) if device is not None else batch


Line = list[Node]
"""Subtrees side by side in one row of a batch; each sees only itself and the prefix."""


def in_lines(units: Sequence[Node], token_budget: int, width: int) -> Iterator[list[Line]]:
    """Batches of lines, longest first; a line is as many neighbours in length as fit into about *width* tokens.

    Neighbours in length make lines of nearly equal length, so there is hardly any padding, and lines short beside the batch keep
    attention from being spent on pairs of tokens that do not see each other.
    """
    left = sorted(units, key=lambda unit: -unit.size)
    while left:
        side = max(1, round(width / left[0].size))
        longest = sum(unit.size for unit in left[:side])
        rows = max(1, token_budget // longest)
        batch, left = left[: side * rows], left[side * rows :]
        yield [batch[start : start + side] for start in range(0, len(batch), side)]


@dataclass(frozen=True)
class Grid:
    """A batch as the model sees it.

    :param ids: [lines, columns], right-padded.
    :param positions: [lines, columns], each token's place in its sequence.
    :param ends: [lines, columns], the first column that no longer sees this one: a token is seen from its own column up to the
        end of its node's subtree. Together with "from the left only" this is the attention mask.
    :param reads: (line, column, sequence, slot) of every wanted distribution.
    :param tokens: how many there are, padding not counted.
    :param chains: whether each line is a single sequence, which plain causal attention gets right.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    ends: torch.Tensor
    reads: list[tuple[int, int, int, int]]
    tokens: int
    chains: bool

    @classmethod
    def of(cls, lines: Sequence[Line], sequences: Sequence[Ids]) -> Grid:
        """Lay out the subtrees of each line, parents before children."""
        columns = max(sum(unit.size for unit in line) for line in lines)
        ids, positions = torch.zeros(len(lines), columns, dtype=torch.long), torch.zeros(len(lines), columns, dtype=torch.long)
        ends = torch.arange(1, columns + 1).repeat(len(lines), 1)
        reads = []
        for row, line in enumerate(lines):
            column = 0
            for unit in line:
                for node in unit.subtree():
                    here = slice(column, column + node.end - node.start)
                    ids[row, here] = torch.as_tensor(sequences[node.sequence][node.start : node.end])
                    positions[row, here] = torch.arange(node.start, node.end)
                    ends[row, here] = column + node.size
                    reads += [(row, column + position - node.start, sequence, slot) for position, sequence, slot in node.reads]
                    column = here.stop
        tokens = sum(unit.size for line in lines for unit in line)
        return cls(ids, positions, ends, reads, tokens, all(len(line) == 1 and not line[0].branches for line in lines))

    def visible(self, before: int) -> torch.Tensor:
        """[lines, columns, before + columns], whether a token sees another; all see the *before* tokens of the prefix."""
        column = torch.arange(self.ids.shape[1])
        inside = (column[:, None] >= column) & (column[:, None] < self.ends[:, None, :])
        return torch.nn.functional.pad(inside, (before, 0), value=True)
