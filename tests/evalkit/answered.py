"""Results made of answers one writes down: what `evalkit run` would have written for a model that answers so."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evalkit import results
from evalkit.aggregate import reasons
from evalkit.methods import letters
from evalkit.recorded import Recorded, read
from evalkit.tasks.mmlu import HENDRYCKS
from evalkit.types import LETTERS, ChoiceTask, Question, Sample
from modelkit.records import ModelRecord, Result, Speed, TaskScore

Subjects = Mapping[str, str]
"""Subject → what its questions are answered, letter by letter, a dot for an unscored one."""


def questions(subject: str, golds: str) -> list[Question]:
    """One four-option question for each right letter."""
    return [
        Question(f"{subject}/{i}", subject, ("all",), f"{subject} question {i}?", ("red", "green", "blue", "gold"), gold)
        for i, gold in enumerate(golds)
    ]


def sample(question: Question, answer: str, sure: float = 0.7) -> Sample:
    """A sample with letter probabilities: *sure* for *answer*, the rest shared evenly."""
    if answer == ".":
        return Sample(question, "letters", question.gold, reason="longer than 9 tokens even without shots")
    made = Sample(question, "letters", question.gold, prompt=f"{question.text}\nAnswer:")
    rest = (1 - sure) / (len(question.options) - 1)
    made.answer({letter: math.log(sure if letter == answer else rest) for letter in LETTERS[: len(question.options)]}, 0)
    return made


def result(
    folder: Path,
    golds: Subjects,
    answers: Subjects,
    task: str = "mmlu@hendrycks",
    protocol: Any = HENDRYCKS,
    data: str = "sha256:0123456789",
    prompts: bool = False,
    **facts: Any,
) -> Recorded:
    """A result folder, written and read back."""
    asked = {subject: questions(subject, golds[subject]) for subject in answers}
    samples = [sample(one, answer) for subject in answers for one, answer in zip(asked[subject], answers[subject], strict=True)]
    return write(folder, {task: samples}, protocol, data, prompts, **facts)


def write(
    folder: Path,
    samples: Mapping[str, Sequence[Sample]],
    protocol: Any = HENDRYCKS,
    data: str = "sha256:0",
    prompts: bool = False,
    **facts: Any,
) -> Recorded:
    """A result folder with these samples, by task."""
    tasks = {}
    for name, lines in samples.items():
        items: list[Any] = [one.item for one in lines]
        choice = ChoiceTask(name, data, items, protocol, {}, 0, ["letters"])
        score = letters.score(choice, lines)
        told = {"protocol": protocol.name, "average": protocol.official, "chance": 0.25, "bos": "none", "letter_tokens": {"A": [5]}} | facts
        tasks[name] = TaskScore(
            data=data, methods={"letters": score}, unscored_reasons=reasons(lines), shots_used={"0": len(lines)}, **told
        )
    made = Result(
        id="made",
        model=ModelRecord(path="models/tiny", fingerprint="sha256:feed", dtype="fp32"),
        tasks=tasks,
        speed=Speed(seconds=1.0, questions_per_s=1.0, tokens_computed=10),
        environment={"python": "3.11", "transformers": "5.23.0", "device": "cpu"},
    )
    results.write(folder, made, {name: list(lines) for name, lines in samples.items()}, prompts)
    return read(folder)
