"""What was computed once and may be of use again: keys and values of finished sequences, found by their beginnings."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from modelkit.generation.slots import Lines


def shared_length(left: Sequence[int], right: Sequence[int]) -> int:
    """How many tokens two sequences have in common at their beginning."""
    length = min(len(left), len(right))
    if left[:8] == right[:8] and left[:length] == right[:length]:
        return length
    return next((i for i in range(length) if left[i] != right[i]), length)


class PrefixStore:
    """Keeps at most *limit_bytes*; the longest unused goes first. Matches token by token: what is found is exactly what was asked."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._held: OrderedDict[tuple[int, ...], tuple[Lines, int]] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._held)

    def put(self, ids: Sequence[int], size: int, copy: Callable[[], Lines]) -> None:
        """Keep the keys and values of *ids*, *size* bytes; what they continue is dropped, since it is contained in them.

        :param copy: makes them; called once there is room, and not at all where they are too large or known already.
        """
        key = tuple(ids)
        if size > self._limit or any(shared_length(key, other) == len(key) for other in self._held):
            return
        for other in [other for other in self._held if shared_length(key, other) == len(other)]:
            self._drop(other)
        while self.bytes + size > self._limit:
            self._drop(next(iter(self._held)))
        self._held[key] = (copy(), size)
        self.bytes += size

    def find(self, ids: Sequence[int]) -> tuple[Lines, int]:
        """The entry that shares the longest beginning with *ids*, and how many tokens that is."""
        wanted = tuple(ids)
        best = max(self._held, key=lambda held: shared_length(held, wanted), default=())
        if not (length := shared_length(best, wanted)):
            return [], 0
        self._held.move_to_end(best)
        return self._held[best][0], length

    def clear(self) -> None:
        """Forget everything."""
        self._held.clear()
        self.bytes = 0

    def _drop(self, key: tuple[int, ...]) -> None:
        self.bytes -= self._held.pop(key)[1]
