"""What a multiple-choice method asks of a model, whether its weights lie here or behind an endpoint: texts in, numbers or texts out.

:class:`evalkit.models.endpoint.EndpointModel` has this face by nature; a checkpoint on disk gets it from
:class:`evalkit.models.local_face.LocalFace`, which encodes the texts and hands token ids to the model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from modelkit.chat import Message
from modelkit.generation.sampling import Sampling


@dataclass(frozen=True)
class Prompt:
    """A prompt: its plain text, its turns where it is asked as a chat, its token ids where the model's tokenizer is at hand."""

    text: str
    turns: tuple[Message, ...] = ()
    ids: Sequence[int] = ()


@dataclass(frozen=True)
class Reading:
    """What a model thinks of each candidate after one prompt, or the ``reason`` why nobody knows.

    :param logprobs: natural-log probabilities over the full vocabulary: one per letter, or one per token of a continuation.
    :param facts: worth keeping with the sample, such as which of the numbers are only upper bounds.
    """

    logprobs: tuple[float, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    reason: str | None = None


@dataclass(frozen=True)
class Reply:
    """What a model wrote, or the ``reason`` why nothing came. ``tokens`` counts what was written, the stop token included."""

    text: str = ""
    tokens: int = 0
    finish: Literal["stop", "length"] = "stop"
    reason: str | None = None


@dataclass(frozen=True)
class Letters:
    """The letters as they are looked for right after a prompt.

    :param texts: each with its lead, such as ``" A"``.
    :param tokens: the token ids of each; empty where the model's tokenizer is not at hand.
    """

    texts: tuple[str, ...]
    tokens: tuple[tuple[int, ...], ...] = ()

    @property
    def room(self) -> int:
        """How many tokens behind a prompt the model must be able to read to score every letter."""
        return max(map(len, self.tokens), default=1) - 1


Readings = Callable[[list[int], list[Reading]], None]
Replies = Callable[[list[int], list[Reply]], None]
"""Told the places of some prompts, and what was found for each, as soon as it is known; batches come in any order."""


class PromptEncoder(Protocol):
    """Text → token ids, as far as the tokenizer is known. One that isn't gives no ids and lengths of 0: nothing is too long."""

    chat: bool
    bos: str

    def encode(self, prompts: Sequence[str]) -> list[list[int]]:
        """Token ids of each prompt."""

    def lengths(self, pieces: Sequence[str]) -> list[int]:
        """Number of tokens of each piece of text on its own."""


class Face(Protocol):
    """The verbs of a model on texts. ``context`` is its longest sequence in tokens, ``None`` when nobody says."""

    encoder: PromptEncoder
    context: int | None

    def letters(self, prompt: str, lead: str, letters: Sequence[str]) -> Letters:
        """How *letters* are looked for after prompts like this one.

        :raises UserError: when the model can't tell the probability of a letter there.
        """

    def letter_logprobs(self, prompts: Sequence[Prompt], letters: Letters, on_batch: Readings) -> None:
        """Log-probability of each letter right after each prompt."""

    def continuation_logprobs(self, prompts: Sequence[Prompt], texts: Sequence[str], on_batch: Readings) -> None:
        """Log-probability of every token by which prompt + text differs from the prompt; *texts* are parallel to *prompts*.

        :raises UserError: when the model can't tell.
        """

    def complete(self, prompts: Sequence[Prompt], sampling: Sampling, stop: Sequence[str], on_batch: Replies) -> None:
        """What the model writes after each prompt, up to one of the *stop* strings, which is not part of it."""
