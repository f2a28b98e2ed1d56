"""What may be asked, field by field: the requests of OpenAI's API, with a few samplers beside its own.

Fields that ask for something this server doesn't do are refused by name rather than left out silently, unless they ask for nothing
(``tools: []``, ``frequency_penalty: 0``).
"""

from __future__ import annotations

import secrets
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, model_validator

from modelkit.chat import Message
from modelkit.generation.requests import MAX_TOP
from modelkit.generation.sampling import Sampling

_NOTES = {"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"}
"""Fields that ask nothing of the model."""
_NOTHING: dict[str, tuple[Any, ...]] = {
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "response_format": ({"type": "text"},),
    "suffix": ("",),
    "best_of": (1,),
}
"""Fields of OpenAI's that can't be served, with the values that ask for nothing."""
_LEAST = 1e-6
"""What is less is no number to calculate with in single precision."""
_WIDEST = 1 << 20
"""More tokens than any vocabulary has."""
_INSTEAD = {"frequency_penalty": "use repetition_penalty", "presence_penalty": "use repetition_penalty", "best_of": "use n"}


class Wish(BaseModel):
    """A request's body. ``null`` is as good as leaving a field out."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _served(cls, body: Any) -> Any:
        if not isinstance(body, dict):
            raise ValueError("the body must be a JSON object, sent as application/json")
        asked = {name: value for name, value in body.items() if value is not None and name not in _NOTES}
        for name in [name for name in asked if name in _NOTHING]:
            if asked.pop(name) not in _NOTHING[name]:
                raise ValueError(f"{name} is not served here: {_INSTEAD.get(name, 'leave it out')}")
        unknown = sorted(asked.keys() - cls.model_fields.keys())
        if unknown:
            raise ValueError(f"{unknown[0]!r} is no field of this request: leave it out")
        return asked


class StreamOptions(BaseModel):
    """``include_usage`` asks for token counts in the last event."""

    include_usage: bool = False


def _zero_or_felt(temperature: float) -> float:
    if 0 < temperature < _LEAST:
        raise ValueError(f"above 0 it must be at least {_LEAST}: for the likeliest tokens say 0")
    return temperature


class Drawn(Wish):
    """How text is drawn; ``top_k``, ``min_p`` and ``repetition_penalty`` are extensions."""

    model: str
    n: int = Field(1, ge=1)
    temperature: Annotated[float, AfterValidator(_zero_or_felt)] = Field(1.0, ge=0, le=2)
    top_p: float = Field(1.0, ge=_LEAST, le=1)
    top_k: int = Field(0, ge=0, le=_WIDEST)
    min_p: float = Field(0.0, ge=0, lt=1)
    repetition_penalty: float = Field(1.0, ge=0.01, le=10)
    seed: int = Field(default_factory=lambda: secrets.randbits(31))
    stop: list[Annotated[str, Field(min_length=1)]] = Field([], max_length=16)
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()

    @model_validator(mode="before")
    @classmethod
    def _one_stop(cls, body: Any) -> Any:
        return {**body, "stop": [body["stop"]]} if isinstance(body, dict) and isinstance(body.get("stop"), str) else body

    def sampling(self, max_tokens: int) -> Sampling:
        """The engine's settings."""
        return Sampling(max_tokens, self.temperature, self.top_k, self.top_p, self.seed, self.min_p, self.repetition_penalty)


def _whole(text: str) -> str:
    """*text*, unless it has what JSON can write and no tokenizer can read."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("half of a surrogate pair is no character: send whole ones") from None
    return text


def _prompts(given: Any) -> Any:
    many = [given] if isinstance(given, str) or _are_ids(given) else given
    if isinstance(many, list) and all(isinstance(one, str) for one in many):
        return [_whole(text) for text in many]
    if isinstance(many, list) and all(map(_are_ids, many)):
        return many
    raise ValueError("give a text, token ids, or a list of either")


def _are_ids(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, int) and not isinstance(one, bool) for one in value)


class CompletionWish(Drawn):
    """``/v1/completions``. With ``echo`` the prompt is part of the answer and, with ``logprobs``, so are its tokens' probabilities."""

    prompt: Annotated[list[str] | list[list[int]], PlainValidator(_prompts)]
    max_tokens: int = Field(16, ge=0)
    logprobs: int | None = Field(None, ge=0, le=MAX_TOP)
    echo: bool = False

    @model_validator(mode="after")
    def _writes_something(self) -> CompletionWish:
        if self.max_tokens == 0 and not self.echo:
            raise ValueError("max_tokens 0 asks for nothing unless echo is true")
        return self


class Part(BaseModel):
    """A part of a message: text only."""

    type: Literal["text"]
    text: str


class Said(BaseModel):
    """A message. ``developer`` is what OpenAI calls system now."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part]

    @model_validator(mode="after")
    def _readable(self) -> Said:
        _whole(self.message()["content"])
        return self

    def message(self) -> Message:
        """The message as the lower floors have it."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return Message(role="system" if self.role == "developer" else self.role, content=text)


def conversation(said: list[Said], ends_with: str) -> list[Message]:
    """Messages as they were said.

    :raises ValueError: for a second system prompt, one that isn't first, or the wrong last speaker.
    """
    messages = [one.message() for one in said]
    if any(message["role"] == "system" for message in messages[1:]):
        raise ValueError("there may be one system prompt, and it comes first")
    if not messages or messages[-1]["role"] != ends_with:
        raise ValueError(f"the last message must be the {ends_with}'s")
    return messages


class ChatWish(Drawn):
    """``/v1/chat/completions``. Without ``max_tokens`` a reply may be as long as the server and the context allow."""

    messages: list[Said]
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool = False
    top_logprobs: int = Field(0, ge=0, le=MAX_TOP)

    @model_validator(mode="after")
    def _consistent(self) -> ChatWish:
        conversation(self.messages, "user")
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs: true")
        return self

    @property
    def longest(self) -> int | None:
        """The longest reply, by either of its names."""
        return self.max_completion_tokens or self.max_tokens


class ScoreWish(Wish):
    """``/v1/score``: the rewards of one conversation (``messages``) or many, each of which ends with the assistant's reply."""

    model: str
    messages: list[Said] | None = None
    conversations: list[list[Said]] | None = Field(None, min_length=1)

    @model_validator(mode="after")
    def _one_or_many(self) -> ScoreWish:
        if (self.messages is None) == (self.conversations is None):
            raise ValueError("give either messages, one conversation, or conversations, a list of them")
        self.all()
        return self

    def all(self) -> list[list[Message]]:
        """Every conversation."""
        return [conversation(one, "assistant") for one in self.conversations or [self.messages or []]]
