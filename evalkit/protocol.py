"""Protocols: how a benchmark asks its questions, byte by byte, and which number of it is the official one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Literal

from evalkit.fitting import Ask, Rule
from evalkit.types import LETTERS, Question, Sample


def words(subject: str) -> str:
    """``high_school_physics`` → ``high school physics``."""
    return subject.replace("_", " ")


def first(questions: Sequence[Question], shots: int) -> list[Question]:
    """The first *shots* questions of dev, in the file's order."""
    return list(islice(questions, shots))


@dataclass(frozen=True)
class Protocol:
    """How a benchmark asks: data, and small functions that make text of it, which unusual protocols override.

    A plain prompt is the header, the shots (each a block, its reply and ``between``), and the question's block, which ends where
    the answer is expected. In a chat each shot is a user's and an assistant's turn, the header opens the first user's turn,
    (where ``header_in_chat``) and ``system``, where there is one, comes before all.

    :param official: the benchmark's own number: over questions (micro), over subjects (macro) or over points.
    :param title: subject (a file's name) → what stands for ``{subject}`` in header and system prompt.
    :param letter_lead: what comes between block and letter.
    :param symbols: what the options are called in the prompt, in place of A, B, ….
    :param choose: which questions of dev are the shots.
    :param drop: what goes when a prompt is too long: the last shot, the longest shots, or tokens on the left.
    :param limit: longest prompt in tokens, whatever the model could read; ``None`` for all that it reads.
    :param shots_limit: header and shots have fewer tokens than this; further shots are not taken.
    :param methods: the protocol's own methods, which are the default.
    :param allows: the methods that make sense with it.
    :param extraction: how ``generate`` reads an answer out of a reply; see :mod:`evalkit.extraction.ladders`.
    :param max_tokens: length of a generated reply; it ends earlier at a ``stop`` string.
    :param answer_tokens: where the reply holds thoughts only: length of a second one, which is asked for behind ``conclusion``.
    :param approximate: why the original's prompts or numbers are not met exactly; empty where they are.
    """

    name: str
    official: Literal["micro", "macro", "points"]
    header: str = ""
    title: Callable[[str], str] = words
    opening: str = ""
    cue: str = ""
    letter_lead: str = ""
    symbols: str = LETTERS
    between: str = "\n\n"
    strip: bool = False
    system: str = ""
    header_in_chat: bool = True
    shots: int = 5
    choose: Callable[[Sequence[Question], int], list[Question]] = first
    drop: Rule = "last"
    limit: int | None = 2048
    shots_limit: int | None = None
    methods: tuple[str, ...] = ("letters",)
    allows: tuple[str, ...] = ("letters", "perplexity", "generate")
    extraction: str = "robust"
    max_tokens: int = 32
    answer_tokens: int = 0
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    approximate: str = ""

    def headline(self, subject: str) -> str:
        """The header of *subject*'s prompts."""
        return self.header.replace("{subject}", self.title(subject))

    def block(self, question: Question, method: str = "letters") -> str:
        """The question up to the place where the answer is expected."""
        text = question.text.strip() if self.strip else question.text
        options = "".join(f"\n{letter}. {option}" for letter, option in zip(self.symbols, question.options, strict=False))
        return f"{self.opening}{text}{options}{self.cue}"

    def reply(self, question: Question) -> str:
        """What follows a shot's block."""
        known = question.kind == "single" and question.gold in LETTERS
        return self.letter_lead + (self.symbols[LETTERS.index(question.gold)] if known else question.gold)

    def shot(self, question: Question, number: int = 1) -> str:
        """The question as an example, the *number*-th of its prompt."""
        return self.block(question) + self.reply(question) + self.between

    def lead(self, question: Question) -> str:
        """What comes between the question's block and a letter."""
        return self.letter_lead

    def conclusion(self, question: Question) -> str:
        """What comes between the thoughts and the answer, where the two are asked for one after the other."""
        return ""

    def turns(self, question: Question, method: str) -> tuple[str, str]:
        """The question as a user's turn, and the assistant's answer to it, as far as it is known."""
        return self.block(question, method), self.reply(question).strip()

    def further(self, samples: Sequence[Sample]) -> dict[str, Any]:
        """Numbers of the benchmark's own beside the score of these samples."""
        return {}

    def asks(self, subject: str, shots: Sequence[Question], items: Sequence[Question], method: str) -> list[Ask]:
        """The parts of the prompts of one subject's questions, plain and as chats."""
        plain = Ask(
            self.headline(subject),
            tuple(self.shot(shot, number) for number, shot in enumerate(shots, start=1)),
            "",
            system=self.system.replace("{subject}", self.title(subject)),
            turns=tuple(self.turns(shot, method) for shot in shots),
            opens=self.header_in_chat,
        )
        return [replace(plain, block=self.block(item, method), turn=self.turns(item, method)[0]) for item in items]
