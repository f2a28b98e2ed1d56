"""What an answer is worth, and what answers without thought are worth: guessing, and always the same letter."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Literal

from evalkit.types import LETTERS, Question, Sample

Average = Literal["micro", "macro", "points"]


def credit(question: Question, answer: str | None) -> float:
    """The share of its points that *answer* earns: all for the gold, ``partial`` for some of several right letters and no wrong one."""
    if answer == question.gold:
        return 1.0
    return question.partial if answer and set(answer) < set(question.gold) and question.kind == "multiple" else 0.0


def earned(sample: Sample) -> float:
    """The points a scored sample earns."""
    assert isinstance(sample.item, Question)
    return sample.item.points * (1.0 if sample.correct else credit(sample.item, sample.prediction))


def chance(questions: Sequence[Question], average: Average) -> float | None:
    """What guessing is expected to score: a letter, or any letters at all where several may be right.

    A question without options can't be guessed. ``None`` when no question has a public answer.

    :param average: over questions (micro), subjects (macro) or points, as the score is that this is held beside.
    """
    subjects = _known(questions)
    if not subjects:
        return None
    if average == "macro":
        return sum(sum(map(_guess, own)) / len(own) for own in subjects.values()) / len(subjects)
    known = [question for own in subjects.values() for question in own]
    weights = [question.points if average == "points" else 1.0 for question in known]
    return sum(weight * _guess(question) for weight, question in zip(weights, known, strict=True)) / sum(weights)


def majority(questions: Sequence[Question], average: Average) -> float | None:
    """What always giving the same answer scores, the best one of each subject. ``None`` when no question has a public answer."""
    subjects = _known(questions)
    if not subjects:
        return None
    if average == "points":
        best = sum(max(sum(one.points * credit(one, answer) for one in own) for answer in _answers(own)) for own in subjects.values())
        return best / sum(question.points for own in subjects.values() for question in own)
    right = [max(sum(one.gold == answer for one in own) for answer in _answers(own)) for own in subjects.values()]
    sizes = [len(own) for own in subjects.values()]
    if average == "micro":
        return sum(right) / sum(sizes)
    return sum(hits / size for hits, size in zip(right, sizes, strict=True)) / len(sizes)


def majorities(questions: Sequence[Question], average: Average) -> dict[str, float]:
    """:func:`majority` subject by subject; subjects without public answers are left out."""
    found = {subject: majority(own, average) for subject, own in _known(questions).items()}
    return {subject: share for subject, share in found.items() if share is not None}


def _known(questions: Sequence[Question]) -> dict[str, list[Question]]:
    """The questions with a public answer by subject."""
    subjects: dict[str, list[Question]] = {}
    for question in questions:
        if question.gold:
            subjects.setdefault(question.subject, []).append(question)
    return subjects


def _answers(questions: Sequence[Question]) -> set[str]:
    """The answers worth giving every time: those that are some question's gold, and parts of them."""
    letters = {question.gold for question in questions if question.kind != "cloze"}
    return letters | {letter for gold in letters for letter in gold} or {""}


def _guess(question: Question) -> float:
    letters = LETTERS[: len(question.options)]
    if question.kind == "cloze" or not letters:
        return 0.0
    if question.kind == "single":
        return 1 / len(letters)
    guesses = ["".join(some) for size in range(1, len(letters) + 1) for some in combinations(letters, size)]
    return sum(credit(question, guess) for guess in guesses) / len(guesses)
