"""What evalkit passes around: questions and rows, tasks made of them, and the samples that come out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, field_validator

from modelkit.chat import Message
from modelkit.fingerprint import sha256_of_text

if TYPE_CHECKING:
    from evalkit.protocol import Protocol
    from evalkit.validation import Finding

LETTERS = "ABCDEFGHIJ"


@dataclass(frozen=True)
class Question:
    """A question of a benchmark.

    :param id: ``<subject>/<row of the subject's file, from 0>``, with ``.<part>`` where a row holds several questions.
    :param options: empty for a cloze question.
    :param gold: a letter; several in order ("ABD") for ``multiple``; the answer's text for ``cloze``; "" when it isn't public.
    :param explanation: a shot's chain of thought.
    :param points: weight in the official score.
    :param partial: share of the points for some but not all letters of a ``multiple`` gold and no wrong one.
    :param part: place among the *parts* questions that one prompt asks together, from 0.
    :param fault: why nobody can score it; such a question is never asked.
    """

    id: str
    subject: str
    categories: tuple[str, ...]
    text: str
    options: tuple[str, ...]
    gold: str
    kind: Literal["single", "multiple", "cloze"] = "single"
    passage: str = ""
    explanation: str = ""
    points: float = 1.0
    partial: float = 0.0
    part: int = 0
    parts: int = 1
    fault: str = ""


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
    """Multiple choice, and cloze questions among it.

    :param dev: each subject's shots, in the order in which they are asked.
    :param findings: what the validation of its data found.
    :param expected: the subjects of the whole benchmark; empty where there is no such list.
    :param left_out: how many questions of the subjects asked are not asked, since a limit was set.
    :param origin: where the data came from by name, with its revision; empty for a folder.
    """

    name: str
    data: str
    items: Sequence[Question]
    protocol: Protocol
    dev: dict[str, list[Question]]
    shots: int
    methods: Sequence[str]
    findings: Sequence[Finding] = ()
    expected: Sequence[str] = ()
    left_out: int = 0
    origin: str = ""
    kind: ClassVar[str] = "choice"

    @property
    def notes(self) -> dict[str, int]:
        """How often each rule of the validation spoke."""
        return dict(sorted(Counter(finding.rule for finding in self.findings).items()))

    @property
    def missing_subjects(self) -> list[str]:
        """The benchmark's subjects that aren't asked."""
        asked = {item.subject for item in self.items}
        return [subject for subject in self.expected if subject not in asked]

    @cached_property
    def endings(self) -> dict[tuple[str, str], Question]:
        """For each way in which a prompt ends where a letter is expected: the question with the most options that is asked so."""
        found: dict[tuple[str, str], Question] = {}
        for item in self.items:
            if item.options:
                ending = self.ending(item)
                found[ending] = max(found.get(ending, item), item, key=lambda question: len(question.options))
        return found

    def ending(self, item: Question) -> tuple[str, str]:
        """The end of a question's prompt and what comes between it and a letter: all that a letter's tokens depend on."""
        return self.protocol.block(item, "letters")[-4:], self.protocol.lead(item)


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
    ``prompt_sha256`` follows from the prompt, and is all that is left of it where prompts aren't kept.
    """

    item: Item
    method: str
    gold: str | None = None
    prediction: str | None = None
    correct: bool | None = None
    scores: dict[str, float] | None = None
    shots_used: int | None = None
    reason: str | None = None
    prompt: str | None = None
    prompt_sha256: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.prompt is not None:
            self.prompt_sha256 = sha256_of_text(self.prompt)

    def answer(self, scores: dict[str, float], shots_used: int) -> None:
        """Settle a choice: the letter with the highest score, the first among equals. A score that is no number is a reason."""
        if any(math.isnan(score) for score in scores.values()):
            self.reason = "the model gave no number (NaN): use --dtype fp32"
            return
        self.scores, self.shots_used = scores, shots_used
        self.prediction = max(scores, key=scores.__getitem__)
        self.correct = self.prediction == self.gold if self.gold else None

    def to_json(self, prompts: bool = False) -> dict[str, Any]:
        """The sample's line, with its prompt if *prompts*; what is ``extra`` follows the fields all samples have."""
        line: dict[str, Any] = {"id": self.item.id, "subject": self.item.subject} | {name: getattr(self, name) for name in _FIELDS}
        if prompts and self.prompt is not None:
            line["prompt"] = self.prompt
        return line | self.extra

    @classmethod
    def from_json(cls, line: dict[str, Any], item: Item) -> Sample:
        """The sample of *item* that :meth:`to_json` made *line* of."""
        known = {name: line[name] for name in (*_FIELDS, "prompt") if name in line}
        extra = {name: value for name, value in line.items() if name not in {*known, "id", "subject"}}
        return cls(item, extra=extra, **known)


_FIELDS = ("method", "gold", "prediction", "correct", "scores", "shots_used", "reason", "prompt_sha256")
