"""Sequences of different lengths → right-padded batches of similar length under a token budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch


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
