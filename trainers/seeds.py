"""Random numbers by name: every draw's seed follows from the run's seed and what it is for, so nothing random needs saving."""

from __future__ import annotations

import hashlib


def derive(seed: int, *purpose: str | int) -> int:
    """A 62-bit seed for one purpose, for example ``derive(0, "sft", "order", epoch)``. Different purposes are independent."""
    text = "\0".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 2
