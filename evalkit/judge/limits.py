"""What asking costs, and how fast one may ask."""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

from modelkit.chat import Message
from modelkit.errors import UserError

_CJK = re.compile(r"[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef]")
_MESSAGE = 4


def estimated_tokens(messages: Sequence[Message]) -> int:
    """About how many tokens a conversation has, without its tokenizer: one for a Chinese character, one for four others.

    Rather too many than too few for current tokenizers; what is shown afterwards is what the server counted.
    """
    text = "".join(message["content"] for message in messages)
    wide = len(_CJK.findall(text))
    return wide + (len(text) - wide + 3) // 4 + _MESSAGE * (len(messages) + 1)


@dataclass(frozen=True)
class Prices:
    """Dollars (or whatever the user counts in) per million tokens: read, written, and read out of the server's cache."""

    read: float
    written: float
    cached: float

    @classmethod
    def parse(cls, text: str) -> Prices:
        """Of ``2.5,10`` or ``2.5,10,1.25``.

        :raises UserError: for anything else.
        """
        try:
            values = [float(part) for part in text.split(",")]
        except ValueError:
            values = []
        if len(values) not in (2, 3) or not all(0.0 <= value < math.inf for value in values):
            raise UserError(f"--price {text} is no price: give what a million tokens cost, read and written, such as 2.5,10.")
        return cls(values[0], values[1], values[2] if len(values) == 3 else values[0])

    def cost(self, read: int, written: int, cached: int = 0) -> float:
        """What so many tokens cost; *cached* are among those *read*."""
        return ((read - cached) * self.read + cached * self.cached + written * self.written) / 1e6


@dataclass
class Spending:
    """What has been spent, and what requests under way may cost at most; together never above ``limit``."""

    prices: Prices | None = None
    limit: float | None = None
    requests: int = 0
    read: int = 0
    written: int = 0
    cached: int = 0
    reserved: float = 0.0
    under_way: int = 0

    def __post_init__(self) -> None:
        if self.limit is not None and self.prices is None:
            raise UserError("--max-cost needs --price, since nobody else knows what the judge costs: give it as --price READ,WRITTEN.")
        if self.limit is not None and math.isnan(self.limit):
            raise UserError("--max-cost is no number: give what the judge may cost at most, in the unit of --price.")

    @property
    def cost(self) -> float | None:
        """What the counted tokens cost; ``None`` without prices."""
        return self.prices.cost(self.read, self.written, self.cached) if self.prices else None

    def reserve(self, worst: float) -> bool:
        """Set aside *worst* for a request; ``False`` when that could break the limit."""
        if self.limit is not None and (self.cost or 0.0) + self.reserved + worst > self.limit:
            return False
        self.reserved += worst
        self.under_way += 1
        return True

    def settle(self, worst: float, read: int, written: int, cached: int) -> None:
        """A request is over: what it took instead of what was set aside."""
        self.reserved -= worst
        self.under_way -= 1
        self.requests += 1
        self.read, self.written, self.cached = self.read + read, self.written + written, self.cached + cached

    def __str__(self) -> str:
        cost = "" if self.cost is None else f", {self.cost:.4f} at the prices given"
        cached = f" ({self.cached:,} of them cached)" if self.cached else ""
        return f"{self.requests:,} requests, {self.read:,} tokens read{cached}, {self.written:,} written{cost}"


@dataclass
class Pace:
    """At most so many tokens a minute, spread evenly: each request delays the next by its share of the minute."""

    tokens_per_minute: float | None = None
    _free: float = 0.0

    async def take(self, tokens: int) -> None:
        """Wait until a request of *tokens* may go."""
        if self.tokens_per_minute is not None:
            now = time.monotonic()
            start = max(now, self._free)
            self._free = start + 60.0 * tokens / self.tokens_per_minute
            await asyncio.sleep(start - now)

    def correct(self, expected: int, taken: int) -> None:
        """A request of *expected* tokens turned out to be of *taken*."""
        if self.tokens_per_minute is not None:
            self._free += 60.0 * (taken - expected) / self.tokens_per_minute
