"""What a server can do, found out by asking it once for each thing before any question is sent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from evalkit.models.retry import Failed
from evalkit.models.server import Server
from evalkit.models.wire import Completion
from modelkit.errors import EndpointError

_TEXT = "One, two, three, four,"
_TOPS = (20, 5)  # likeliest tokens: what vLLM and chats allow, what OpenAI's completions allow


@dataclass(frozen=True)
class Abilities:
    """What a server was seen to do.

    :param top: how many of the likeliest tokens it tells after a text, with their probabilities; 0 when it tells none.
    :param echo: whether it tells the probabilities of a text's own tokens.
    :param chat_top: like *top*, in a chat.
    :param chat_limit: what its chat calls the longest reply.
    :param reported: what it lists about the model.
    """

    completions: bool = False
    top: int = 0
    echo: bool = False
    chat: bool = False
    chat_top: int = 0
    chat_limit: str = "max_tokens"
    reported: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        parts = []
        if self.completions:
            parts.append(f"completions with {_told(self.top)}{', with echo' if self.echo else ', without echo'}")
        if self.chat:
            parts.append(f"chat with {_told(self.chat_top)}")
        return "; ".join(parts)


async def probe(server: Server) -> Abilities:
    """Ask for the list of models, and for one token in every way that may be needed.

    :raises EndpointError: when nobody answers, the key is refused, or the server has neither completions nor a chat for the model.
    """
    listed = await _models(server)
    names = [str(entry.get("id")) for entry in listed]
    reported = next((entry for entry in listed if entry.get("id") == server.endpoint.model), {})

    failures: list[Failed] = []
    completions, top = await _first_token(server, "/completions", {"prompt": _TEXT, "max_tokens": 1}, failures)
    echo = bool(top) and await _echoes(server)
    messages = [{"role": "user", "content": _TEXT}]
    chat, chat_top, chat_limit = False, 0, ""
    for chat_limit in ("max_tokens", "max_completion_tokens"):
        chat, chat_top = await _first_token(server, "/chat/completions", {"messages": messages, chat_limit: 1}, failures)
        if chat:
            break
    if not completions and not chat:
        failure = failures[0]
        if names and not reported:
            raise EndpointError(f"{server.endpoint.url} serves no model {server.endpoint.model!r}: it lists {', '.join(names[:8])}.")
        raise server.hopeless(failure)
    return Abilities(completions, top, echo, chat, chat_top, chat_limit, reported)


async def _models(server: Server) -> list[dict[str, Any]]:
    """What is listed; nothing where the server has no such list."""
    try:
        return await server.models()
    except Failed as failure:
        if failure.status in (404, 405, 501):
            return []
        raise server.hopeless(failure) from None


async def _first_token(server: Server, path: str, body: dict[str, Any], failures: list[Failed]) -> tuple[bool, int]:
    """Whether *path* answers at all, and how many likeliest first tokens it tells."""
    chat = "messages" in body
    for top in (*_TOPS, 0):
        wanted = {"logprobs": True, "top_logprobs": top} if chat else {"logprobs": top}
        answer = await _try(server, path, {**body, "temperature": 0, **(wanted if top else {})}, failures)
        if answer is not None:
            return True, top if _probabilities(answer) else 0
        if failures[-1].status in (404, 405, 501):
            break
    return False, 0


async def _echoes(server: Server) -> bool:
    """Whether a text comes back with the probabilities of its tokens. (llama.cpp accepts the wish and returns only the reply's.)"""
    body = {"prompt": _TEXT, "max_tokens": 1, "temperature": 0, "logprobs": 1, "echo": True}
    try:
        answer = await server.complete("/completions", body, replace(server.patience, total=min(10.0, server.patience.total)))
    except Failed:
        return False
    tokens = answer.echoed()
    return len(tokens) > 1 and all(logprob is not None for _, logprob in tokens[1:])


async def _try(server: Server, path: str, body: dict[str, Any], failures: list[Failed]) -> Completion | None:
    """The answer, or ``None`` when the server declines.

    :raises EndpointError: when it isn't the wish that is at fault: a key or quota, or a server that fails.
    """
    try:
        return await server.complete(path, body)
    except Failed as failure:
        if failure.status in (401, 403, 429) or (failure.scope == "server" and (failure.status or 500) >= 500):
            raise server.hopeless(failure) from None
        failures.append(failure)
        return None


def _probabilities(answer: Completion) -> bool:
    """Whether the first token's alternatives are probabilities: more than one, together at most 1."""
    told = answer.choices[0].first_token()
    return len(told) > 1 and math.fsum(math.exp(min(value, 1.0)) for value in told.values()) < 1.01


def _told(top: int) -> str:
    return f"the {top} likeliest tokens' probabilities" if top else "no log-probabilities"
