"""What a batch is made of, prompts and the rows that continue them, and what comes out of it: tokens, and a tally of the work."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from modelkit.generation.sampling import Sampling

Finish = Literal["stop", "length", "cancelled", "deadline", "error"]


@dataclass(frozen=True)
class Token:
    """One step of one sample of prompt *key*. ``finish`` is set on its last token; ``top`` lists (token, log-probability).

    ``reused`` is how many tokens of the prompt were in the cache already.
    """

    key: int
    sample: int
    id: int
    logprob: float
    finish: Finish | None
    reused: int
    top: tuple[tuple[int, float], ...] = ()


@dataclass(eq=False)
class Prompt:
    """*n* samples to be drawn; *stop* are token ids that end one, *budget* is the most that one may have, *top* and *reused* as above."""

    key: int
    ids: list[int]
    sampling: Sampling
    stop: frozenset[int]
    n: int
    top: int
    budget: int
    reused: int = 0

    @property
    def columns(self) -> int:
        """The longest that a sequence may become in the cache (its last token is never read)."""
        return len(self.ids) + self.budget - 1


@dataclass(eq=False)
class Row:
    """A sequence: *ids* is prompt and reply so far, the first *cached* of which are in the cache.

    *seen* says which tokens have occurred, [vocabulary], where a repetition penalty wants to know.
    """

    prompt: Prompt
    sample: int
    ids: list[int]
    cached: int = 0
    seen: Tensor | None = None

    @property
    def drawn(self) -> int:
        """Tokens of the reply so far."""
        return len(self.ids) - len(self.prompt.ids)

    @property
    def unread(self) -> int:
        """Tokens to read before the next one can be drawn; the last one is read by the step that draws."""
        return len(self.ids) - 1 - self.cached


@dataclass
class Tally:
    """What a batch has done so far, in tokens, forward passes and seconds (by part of a step)."""

    computed: int = 0
    reused: int = 0
    drawn: int = 0
    passes: int = 0
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
