"""A judge behind an OpenAI-compatible server: what it can be asked for, many questions at a time, within a pace and a budget."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from evalkit.judge.judges import MAX_TOKENS, Replies, Reply
from evalkit.judge.limits import Pace, Spending, estimated_tokens
from evalkit.judge.wording import Question
from evalkit.models.retry import Failed, Patience
from evalkit.models.server import Endpoint, Server, finished
from modelkit.chat import Message
from modelkit.errors import UserError
from modelkit.fingerprint import sha256_of_text

_TYPICAL = 250
"""Tokens of a usual verdict, for estimates before anything was asked."""
_UNASKED = "--max-cost was reached"


@dataclass(frozen=True)
class Manners:
    """What a server takes: the name of its limit, a temperature, a JSON schema for its reply."""

    limit: str
    temperature: bool
    structured: bool

    def body(self, messages: Sequence[Message], schema: dict[str, Any] | None, max_tokens: int) -> dict[str, Any]:
        """The request for a reply to *messages*, without the model's name."""
        body: dict[str, Any] = {"messages": list(messages), self.limit: max_tokens}
        if self.temperature:
            body["temperature"] = 0
        if self.structured and schema is not None:
            body["response_format"] = {"type": "json_schema", "json_schema": {"name": "verdict", "strict": True, "schema": schema}}
        return body

    def __str__(self) -> str:
        form = "verdicts in structured output" if self.structured else "no structured output, so verdicts are read out of texts"
        return form if self.temperature else f"{form}; it takes no temperature, so it may say something else another time"


@dataclass
class ServedJudge:
    """See :class:`evalkit.judge.judges.TextJudge`."""

    server: Server
    manners: Manners
    spending: Spending
    pace: Pace
    max_tokens: int = MAX_TOKENS
    usual: int = _TYPICAL
    _stopped: bool = field(default=False, init=False)
    _settled: asyncio.Condition = field(default_factory=asyncio.Condition, init=False)

    @property
    def name(self) -> str:
        """What the server calls the model."""
        return self.server.endpoint.model

    @property
    def identity(self) -> str:
        """``endpoint:sha256:…`` over address, name and manners: which weights answer there can't be verified."""
        return "endpoint:" + sha256_of_text(f"{self.server.endpoint.url}\n{self.name}\n{self.manners}\n{self.max_tokens}")

    def estimate(self, questions: Sequence[Question]) -> str:
        """See :class:`evalkit.judge.judges.TextJudge`."""
        read = sum(estimated_tokens(question.messages) for question in questions)
        line = f"{len(questions):,} questions to {self.name}: about {read:,} tokens to read, {self.usual * len(questions):,} to write"
        if self.spending.prices:
            likely, most = (self.spending.prices.cost(read, each * len(questions)) for each in (self.usual, self.max_tokens))
            line += f", about {likely:.4f} at the prices given (at most about {most:.4f} if every verdict is as long as it may be)"
        return line

    def ask(self, questions: Sequence[Question], on_replies: Replies) -> None:
        """See :class:`evalkit.judge.judges.TextJudge`.

        :raises UserError: when the budget doesn't allow all of them; those it allowed have been answered.
        :raises EndpointError: when the server can't be asked any more.
        """
        self._stopped, self._settled = False, asyncio.Condition()  # every call has an event loop of its own

        async def ask(group: list[int]) -> list[Reply]:
            return [await self._ask(questions[group[0]])]

        def hand_over(places: list[int], replies: list[Reply]) -> None:
            asked = [(place, reply) for place, reply in zip(places, replies, strict=True) if reply.reason != _UNASKED]
            on_replies([place for place, _ in asked], [reply for _, reply in asked])

        groups = [[i] for i in range(len(questions))]
        finished(self.server.each(groups, ask, hand_over, lambda failure: Reply(reason=failure.reason)))
        if self._stopped:
            raise UserError(
                f"--max-cost {self.spending.limit:g} is reached ({self.spending}): what was judged is kept; "
                "raise it and give the same command again to go on."
            )

    def spent(self) -> str:
        """See :class:`evalkit.judge.judges.TextJudge`."""
        return str(self.spending)

    async def _ask(self, question: Question) -> Reply:
        read = estimated_tokens(question.messages)
        worst = self.spending.prices.cost(read, self.max_tokens) if self.spending.prices else 0.0
        if not await self._allowed(worst):
            return Reply(reason=_UNASKED)
        took = (0, 0, 0)
        try:
            await self.pace.take(read + self.usual)
            answer = await self.server.complete("/chat/completions", self.manners.body(question.messages, question.schema, self.max_tokens))
            if usage := answer.usage:
                took = (usage.prompt_tokens, usage.completion_tokens, usage.cached)
                self.pace.correct(read + self.usual, usage.prompt_tokens + usage.completion_tokens)
            else:
                took = (read, estimated_tokens([{"role": "assistant", "content": answer.choices[0].said}]), 0)
        finally:
            self.spending.settle(worst, *took)
            async with self._settled:
                self._settled.notify_all()
        choice = answer.choices[0]
        if choice.finish_reason == "content_filter":
            return Reply(reason="the server's content filter")
        return Reply(choice.said, cut=choice.finish_reason == "length")

    async def _allowed(self, worst: float) -> bool:
        """Set aside *worst* as soon as the budget has room for it; ``False`` when it won't, whatever those under way turn out to take."""
        async with self._settled:
            while not self._stopped and not self.spending.reserve(worst):
                if self.spending.under_way:
                    await self._settled.wait()
                else:
                    self._stopped = True
            return not self._stopped


def connect(endpoint: Endpoint, spending: Spending, pace: Pace, max_tokens: int = MAX_TOKENS) -> ServedJudge:
    """Find out, by a few requests of some tokens, how the server may be asked.

    :raises EndpointError: when it can't be reached, refuses the key, or has no such model.
    """
    server = Server(endpoint, Patience(endpoint.patience))

    async def look() -> Manners:
        async with server.connected():
            return await _manners(server)

    return ServedJudge(server, finished(look()), spending, pace, max_tokens)


_PROBE: list[Message] = [{"role": "user", "content": 'Reply with the JSON object {"ready": true} and nothing else.'}]
_SCHEMA = {"type": "object", "properties": {"ready": {"type": "boolean"}}, "required": ["ready"], "additionalProperties": False}


async def _manners(server: Server) -> Manners:
    """The first way of asking that the server doesn't decline, and whether it takes a schema as well."""
    failure: Failed | None = None
    for limit, temperature in (("max_tokens", True), ("max_completion_tokens", True), ("max_completion_tokens", False)):
        plain = Manners(limit, temperature, structured=False)
        try:
            await server.complete("/chat/completions", plain.body(_PROBE, None, 16))
        except Failed as declined:
            failure = failure or declined
            if declined.status not in (400, 422):
                raise server.hopeless(declined) from None
            continue
        return Manners(limit, temperature, await _structured(server, Manners(limit, temperature, structured=True)))
    assert failure is not None
    raise server.hopeless(failure)


async def _structured(server: Server, manners: Manners) -> bool:
    """Whether a schema is taken and kept to. Servers that don't know one refuse it, or write as if it weren't there."""
    try:
        answer = await server.complete("/chat/completions", manners.body(_PROBE, _SCHEMA, 64))
        found = json.loads(answer.choices[0].said)
    except (Failed, ValueError):
        return False
    return isinstance(found, dict) and found.keys() == {"ready"}
