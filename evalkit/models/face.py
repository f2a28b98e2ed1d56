"""What a multiple-choice method asks of a model, whether its weights lie here or behind an endpoint: texts in, numbers or texts out.

:class:`evalkit.models.endpoint.EndpointModel` has this face by nature; a checkpoint on disk gets it from
:class:`evalkit.models.local_face.LocalFace`, which encodes the texts and hands token ids to the model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from evalkit.types import LETTERS

if TYPE_CHECKING:
    from evalkit.encoding import PromptEncoder, Said
    from modelkit.generation.sampling import Sampling


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
    """What a model wrote, or the ``reason`` why nothing came. ``tokens`` counts what was written, the stop token included.

    :param thoughts: what it wrote before that, where the answer was asked for apart.
    """

    text: str = ""
    tokens: int = 0
    finish: Literal["stop", "length"] = "stop"
    reason: str | None = None
    thoughts: str = ""


@dataclass(frozen=True)
class Letters:
    """The letters A, B, … as they are looked for right after a prompt.

    :param texts: each with its lead, such as ``" A"``.
    :param tokens: the token ids of each; empty where the model's tokenizer is not at hand.
    :param room: how many tokens behind a prompt the model must be able to read to score every letter.
    """

    texts: tuple[str, ...]
    tokens: tuple[tuple[int, ...], ...] = ()
    room: int = 0

    @property
    def shown(self) -> dict[str, list[int] | str]:
        """Each letter with its token ids, or its text where they aren't known."""
        found: Sequence[list[int] | str] = [list(ids) for ids in self.tokens] or self.texts
        return dict(zip(LETTERS, found, strict=False))


Readings = Callable[[list[int], list[Reading]], None]
Replies = Callable[[list[int], list[Reply]], None]
"""Told the places of some prompts, and what was found for each, as soon as it is known; batches come in any order."""

Wanted = set[int] | None
"""Places of the prompts that are to be measured; the others only decide how batches are made. ``None`` for all."""


class Prompt(Protocol):
    """A prompt as it is asked: a text or a conversation, and its token ids where the model's tokenizer is at hand."""

    @property
    def said(self) -> Said:
        """What is asked."""

    @property
    def ids(self) -> list[int]:
        """Its tokens."""

    @property
    def cut(self) -> int:
        """How many tokens it was too long by: taken off on the left of its tokens, not of what is said."""


class Face(Protocol):
    """The verbs of a model on texts. ``context`` is its longest sequence in tokens, ``None`` when nobody says."""

    @property
    def encoder(self) -> PromptEncoder:
        """How long prompts are, as far as anybody knows."""

    @property
    def context(self) -> int | None:
        """The longest sequence the model reads, in tokens; ``None`` when nobody says."""

    def letters(self, prompt: Said, lead: str, letters: Sequence[str]) -> Letters:
        """How *letters* are looked for behind *lead* after prompts like this one.

        :raises UserError: when the model can't tell the probability of a letter there.
        """

    def letter_logprobs(self, prompts: Sequence[Prompt], letters: Letters, on_batch: Readings, wanted: Wanted = None) -> None:
        """Log-probability of each letter right after each prompt."""

    def continuation_logprobs(
        self, prompts: Sequence[Prompt], lead: str, texts: Sequence[str], on_batch: Readings, wanted: Wanted = None
    ) -> None:
        """Log-probability of every token by which prompt + lead + text differs from the prompt; *texts* are parallel to *prompts*.

        :raises UserError: when the model can't tell.
        """

    def complete(
        self, prompts: Sequence[Prompt], sampling: Sampling, stop: Sequence[str], on_batch: Replies, wanted: Wanted = None
    ) -> None:
        """What the model writes after each prompt, up to one of the *stop* strings, which is not part of it."""
