"""How often somebody may ask: a bucket for each name, which fills up evenly and lets a few requests through at once."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

_NAMES = 10_000
"""Most names that are counted at a time; of more, those who asked longest ago are forgotten."""


class Rates:
    """*per_minute* requests a minute for each name, up to *burst* of them at once. Safe to use from many threads.

    :param burst: by default as many as a minute brings.
    :param clock: seconds, of whatever origin.
    """

    def __init__(self, per_minute: float, burst: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second, self._burst, self._clock = per_minute / 60, float(burst or per_minute), clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, name: str) -> float:
        """Count a request: 0.0 when it may go through, else the seconds after which one may."""
        now = self._clock()
        with self._lock:
            left = self._filled(name, now)
            self._left[name] = (left - (left >= 1), now)
            self._left.move_to_end(name)
            if len(self._left) > _NAMES:
                self._left.popitem(last=False)
        return self._wait(left)

    def wait(self, name: str) -> float:
        """What :meth:`take` would answer, without a request's being counted."""
        with self._lock:
            return self._wait(self._filled(name, self._clock()))

    def _filled(self, name: str, now: float) -> float:
        left, since = self._left.get(name, (self._burst, now))
        return min(self._burst, left + (now - since) * self._per_second)

    def _wait(self, left: float) -> float:
        return 0.0 if left >= 1 else (1 - left) / self._per_second
