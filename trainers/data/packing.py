"""Packing: sequences → rows of a fixed capacity with as little left over as a greedy rule can leave."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence


def best_fit_decreasing(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Indices of *lengths* in bins whose sums are at most *capacity*, each index in one bin.

    Longest first, each goes into the fullest bin that still has room (ties: the oldest bin), or opens a new one. Uses at most
    11/9 · optimum + 4 bins (Johnson et al. 1974, "Worst-case performance bounds for simple one-dimensional packing algorithms").
    O(n log n) searches, since bins are kept sorted by the room they have left.

    :returns: bins in the order they were opened, indices within a bin from long to short.
    :raises ValueError: when a length is larger than the capacity, or not positive.
    """
    bins: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (tokens left, bin), ascending
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        length = lengths[index]
        if not 0 < length <= capacity:
            raise ValueError(f"sequence {index} of length {length} does not fit into rows of {capacity}")
        at = bisect_left(room, (length, -1))
        if at < len(room):
            left, chosen = room.pop(at)
        else:
            left, chosen = capacity, len(bins)
            bins.append([])
        bins[chosen].append(index)
        if left > length:
            insort(room, (left - length, chosen))
    return bins


def padding(rows: Sequence[Sequence[int]], lengths: Sequence[int], width: int | None = None) -> float:
    """The share of a batch's positions that hold nothing: every row as wide as *width*, or as the longest of all rows."""
    sums = [sum(lengths[i] for i in row) for row in rows]
    return 1 - sum(sums) / (len(sums) * (width or max(sums)))
