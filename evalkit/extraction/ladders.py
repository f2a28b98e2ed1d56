"""Reply → answers, by the name of a ladder; and whether an answer is right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from evalkit.extraction import official
from evalkit.extraction.letters import stated_letter, stated_letters
from evalkit.extraction.mathematics import stated_answer
from evalkit.extraction.series import stated_series
from evalkit.math_equality import equal_answers, same_normal_form

if TYPE_CHECKING:
    from evalkit.types import Question

LADDERS = ("robust", *official.ONE, "gaokao")


def read(ladder: str, reply: str, questions: Sequence[Question]) -> list[str | None]:
    """What *reply* answers to each of the *questions* that its prompt asked.

    :returns: a letter, letters in alphabetical order (``multiple``), a text (``cloze``), or ``None`` where no answer is stated.
    :raises KeyError: for a ladder that is none of :data:`LADDERS`.
    """
    if ladder == "gaokao":
        return official.gaokao(reply, questions)
    if ladder != "robust":
        return [official.ONE[ladder](reply, question) for question in questions]
    if len(questions) > 1:
        return stated_series(reply, "ABCDEFGHIJ"[: max(len(question.options) for question in questions)], len(questions))
    (question,) = questions
    if question.kind == "cloze":
        return [stated_answer(reply)]
    return [(stated_letters if question.kind == "multiple" else stated_letter)(reply, question.options)]


def is_right(ladder: str, question: Question, prediction: str | None) -> bool:
    """Whether *prediction* is the gold answer: the letter, the same set of letters, or for cloze an equal answer.

    The benchmarks' ladders compare cloze answers as MATH does (:func:`~evalkit.math_equality.same_normal_form`), the robust one by
    value.
    """
    if prediction is None:
        return False
    if question.kind == "cloze":
        return (equal_answers if ladder == "robust" else same_normal_form)(prediction, question.gold.strip().strip("$"))
    return set(prediction) == set(question.gold)
