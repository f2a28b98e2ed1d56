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
            left, since = self._left.pop(name, (self._burst, now))
            left = min(self._burst, left + (now - since) * self._per_second)
            admitted = left >= 1
            self._left[name] = (left - admitted, now)
            if len(self._left) > _NAMES:
                self._left.popitem(last=False)
        return 0.0 if admitted else (1 - left) / self._per_second
