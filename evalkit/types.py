"""What evalkit passes around: protocols, tasks with their items, and the samples that come out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, field_validator

from modelkit.chat import Message
from modelkit.records import MethodScore

LETTERS = "ABCDEFGHIJ"


@dataclass(frozen=True)
class Protocol:
    """How a multiple-choice benchmark asks its questions, byte by byte.

    A prompt is ``header``, then the shots (each a block, ``letter_lead``, its letter and an empty line), then the question's
    block; a block is ``opening``, the question, one line per option and ``cue``. The letter is expected right after the cue,
    behind ``letter_lead``.

    :param title: subject (a file name) → what stands for ``{subject}`` in the header.
    :param drop: what goes when a prompt is too long, the last shot or the longest; see :mod:`evalkit.fitting`.
    :param limit: longest prompt in tokens, whatever the model could read.
    :param official: the average that is this benchmark's number, over questions (micro) or over subjects (macro).
    """

    name: str
    header: str
    title: Callable[[str], str]
    cue: str
    official: Literal["micro", "macro"]
    opening: str = ""
    letter_lead: str = ""
    drop: Literal["last", "longest"] = "last"
    limit: int = 2048

    def headline(self, subject: str) -> str:
        """The header of *subject*'s prompts."""
        return self.header.replace("{subject}", self.title(subject))

    def block(self, question: Question) -> str:
        """The question up to the place where the letter is expected."""
        options = "".join(f"\n{letter}. {option}" for letter, option in zip(LETTERS, question.options, strict=False))
        return f"{self.opening}{question.text}{options}{self.cue}"

    def shot(self, question: Question) -> str:
        """The question as an example, with its letter."""
        return f"{self.block(question)}{self.letter_lead}{question.gold}\n\n"


@dataclass(frozen=True)
class Question:
    """A multiple-choice question. ``id`` is ``<subject>/<row of the subject's file, from 0>``; ``gold`` is a letter."""

    id: str
    subject: str
    categories: tuple[str, ...]
    text: str
    options: tuple[str, ...]
    gold: str


class Row(BaseModel):
    """A line of a JSONL data file. ``id`` and an absent ``subject`` are filled in by the reader."""

    model_config = ConfigDict(extra="ignore")
    id: str = ""
    subject: str = ""
    category: str | None = None

    @property
    def categories(self) -> tuple[str, ...]:
        """The category as a tuple, like a question's."""
        return (self.category,) if self.category else ()


class PromptRow(Row):
    """A conversation that ends with the user."""

    messages: list[Message]

    @field_validator("messages")
    @classmethod
    def _ends_with_user(cls, messages: list[Message]) -> list[Message]:
        if not messages or messages[-1]["role"] != "user":
            raise ValueError("messages must end with a user's turn")
        return messages

    @property
    def question(self) -> str:
        """All the user said, one turn per line."""
        return "\n".join(message["content"] for message in self.messages if message["role"] == "user")


class AnswerRow(PromptRow):
    """A question whose answer is one of several known alternatives."""

    reference: str
    alternatives: list[str]


class PairRow(PromptRow):
    """A preference: of two replies, which is the better one."""

    chosen: str
    rejected: str


class TextRow(Row):
    """A text to predict."""

    text: str

    @field_validator("text")
    @classmethod
    def _not_empty(cls, text: str) -> str:
        if not text:
            raise ValueError("text must not be empty")
        return text


@dataclass(frozen=True)
class ChoiceTask:
    """Multiple choice. ``dev`` holds each subject's shots in file order; ``notes`` counts oddities found in the data."""

    name: str
    data: str
    items: Sequence[Question]
    protocol: Protocol
    dev: dict[str, list[Question]]
    shots: int
    methods: Sequence[str]
    notes: dict[str, int] = field(default_factory=dict)
    kind: ClassVar[str] = "choice"


@dataclass(frozen=True)
class AnswerTask:
    """Greedy chat answers, searched for known alternatives."""

    name: str
    data: str
    items: Sequence[AnswerRow]
    max_tokens: int
    kind: ClassVar[str] = "answer"


@dataclass(frozen=True)
class PairsTask:
    """Preference pairs, for reward models."""

    name: str
    data: str
    items: Sequence[PairRow]
    kind: ClassVar[str] = "pairs"


@dataclass(frozen=True)
class RewardTask:
    """Sampled replies, scored by a reward model beside those of a reference checkpoint."""

    name: str
    data: str
    items: Sequence[PromptRow]
    reward_model: Path
    reference: Path
    samples: int
    max_tokens: int
    kind: ClassVar[str] = "reward"


@dataclass(frozen=True)
class TextTask:
    """Texts to predict: bits per byte."""

    name: str
    data: str
    items: Sequence[TextRow]
    kind: ClassVar[str] = "text"


Task = ChoiceTask | AnswerTask | PairsTask | RewardTask | TextTask
Item = Question | Row


@dataclass
class Sample:
    """What came of one item: a line of ``samples/<task>.jsonl``. ``correct`` is null where right and wrong don't apply.

    An item that could not be measured has a ``reason`` and nothing else; it is unscored, which is not the same as wrong.
    """

    item: Item
    method: str
    gold: str | None = None
    prediction: str | None = None
    correct: bool | None = None
    scores: dict[str, float] | None = None
    shots_used: int | None = None
    prompt: str | None = None
    reason: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def answer(self, scores: dict[str, float], shots_used: int) -> None:
        """Settle a choice: the letter with the highest score, the first among equals. A score that is no number is a reason."""
        if any(math.isnan(score) for score in scores.values()):
            self.reason = "the model gave no number (NaN): use --dtype fp32"
            return
        self.scores, self.shots_used = scores, shots_used
        self.prediction = max(scores, key=scores.__getitem__)
        self.correct = self.prediction == self.gold

    @property
    def settled(self) -> bool:
        """Whether the item is scored or has a reason for not being so."""
        return self.reason is not None or self.prediction is not None or self.correct is not None or bool(self.extra)


@dataclass(frozen=True)
class Measured:
    """What one method found on one task: its score, its samples, and facts about the task worth recording."""

    score: MethodScore
    samples: list[Sample]
    facts: dict[str, Any] = field(default_factory=dict)
