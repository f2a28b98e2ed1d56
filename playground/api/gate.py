"""Holds the limits: refuses what is too much for one request, for one client, or for all together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from modelkit.chat import Message
from playground.api.limits import Limits
from playground.api.refusals import Refused
from playground.guard.rates import Rates


def check_texts(limits: Limits, texts: Sequence[str]) -> None:
    """:raises Refused: when the texts of a request are too long together."""
    if sum(map(len, texts)) > limits.characters:
        raise Refused(413, f"the request has more than {limits.characters:,} characters: send less at a time", "too_many_characters")


def check_messages(limits: Limits, conversations: Sequence[Sequence[Message]]) -> None:
    """:raises Refused: when there are too many messages, or they are too long."""
    if max(map(len, conversations)) > limits.messages:
        raise Refused(413, f"a conversation may have up to {limits.messages} messages", "too_many_messages", "messages")
    check_texts(limits, [message["content"] for messages in conversations for message in messages])


def check_samples(limits: Limits, prompts: int, n: int, tokens: int | None) -> None:
    """:raises Refused: when too many samples, or too long ones, are asked for."""
    if prompts * n > limits.samples:
        raise Refused(422, f"{prompts * n} samples were asked for: up to {limits.samples} are possible in one request", param="n")
    if tokens is not None and tokens > limits.tokens:
        raise Refused(422, f"{tokens} tokens were asked for: up to {limits.tokens} are possible", "too_many_tokens", "max_tokens")


def check_prompt_tokens(limits: Limits, prompts: Sequence[Sequence[int]]) -> None:
    """:raises Refused: when the prompts of a request have too many tokens together."""
    if (tokens := sum(map(len, prompts))) > limits.prompt_tokens:
        said = f"the request has {tokens:,} tokens to read: up to {limits.prompt_tokens:,} are possible, send less at a time"
        raise Refused(413, said, "too_many_prompt_tokens")


class Gate:
    """Counts the requests at work and, for each client, those of the last minute. Used on the event loop only."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._rates = Rates(limits.per_minute) if limits.per_minute else None
        self.inside = 0

    @contextmanager
    def pass_through(self, client: str) -> Iterator[None]:
        """Be at work for a block.

        :raises Refused: when there are too many already.
        """
        if self._rates and (wait := self._rates.take(client)):
            said = f"more than {self._limits.per_minute} requests a minute: try again in {wait:.0f} s"
            raise Refused(429, said, "rate_limit_exceeded", retry_after=wait)
        if self.inside >= self._limits.concurrent:
            raise Refused(429, f"{self.inside} requests are at work already: try again in a moment", "too_many_requests", retry_after=1)
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1
