"""What an OpenAI-compatible server sends back, as far as it is read: completions, chat completions, the list of models.

Servers agree on less than they say: logprobs come as parallel lists or, in llama.cpp's completions too, as a list of tokens like
a chat's. Both are read here, and anything else is garbled rather than half understood.
"""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from evalkit.models.retry import Garbled


class Read(BaseModel):
    """A part of a reply: what isn't read is ignored, and every number is one."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class _Alternative(Read):
    token: str
    logprob: float


class _Token(_Alternative):
    top_logprobs: list[_Alternative] = []


class Logprobs(Read):
    """Either ``tokens`` with their parallel lists, or ``content``."""

    tokens: list[str] = []
    token_logprobs: list[float | None] = []
    top_logprobs: list[dict[str, float] | None] | None = None
    content: list[_Token] | None = None


class _Message(Read):
    content: str | None = None


class Choice(Read):
    """One completion: ``text``, or ``message`` in a chat."""

    text: str | None = None
    message: _Message | None = None
    finish_reason: str | None = None
    logprobs: Logprobs | None = None

    @property
    def said(self) -> str:
        """What the model wrote; empty where a chat's message has no content (it thought until its tokens were spent)."""
        return self.text or (self.message.content if self.message else None) or ""

    def first_token(self) -> dict[str, float]:
        """The likeliest first tokens with their natural-log probabilities; empty when the server doesn't tell.

        Where two tokens read the same, the likelier one stands.
        """
        found: dict[str, float] = {}
        if self.logprobs is None:
            return found
        if self.logprobs.content:
            for one in self.logprobs.content[0].top_logprobs:
                found[one.token] = max(one.logprob, found.get(one.token, one.logprob))
        elif self.logprobs.top_logprobs:
            found = dict(self.logprobs.top_logprobs[0] or {})
        return found


class _Cached(Read):
    cached_tokens: int | None = None


class Usage(Read):
    """Tokens read and written, as the server counts them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _Cached | None = None

    @property
    def cached(self) -> int:
        """Tokens of the prompt that the server did not compute again."""
        return (self.prompt_tokens_details.cached_tokens if self.prompt_tokens_details else None) or 0


class Completion(Read):
    """The answer to a request. Exactly one choice is asked for and read."""

    choices: list[Choice]
    usage: Usage | None = None

    def echoed(self) -> list[tuple[str, float | None]]:
        """The prompt's tokens with their natural-log probabilities (the first has none); empty when they were not sent back."""
        told = self.choices[0].logprobs
        if told is None:
            return []
        count = self.usage.prompt_tokens if self.usage else len(told.tokens) - 1
        return list(zip(told.tokens, told.token_logprobs, strict=False))[:count]


class Models(Read):
    """The list of models. Entries are kept as they are."""

    data: list[dict[str, Any]]


M = TypeVar("M", bound=Read)


def read(kind: type[M], text: str) -> M:
    """*text* as *kind*.

    :raises Garbled: when it is no such thing, or a completion without choices.
    """
    try:
        found = kind.model_validate_json(text)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"]))
        raise Garbled(f"{place}: {problem['msg']}" if place else "no JSON") from None
    if isinstance(found, Completion) and not found.choices:
        raise Garbled("it has no choices")
    return found
