"""Reply → answers, by the name of a ladder; and whether an answer is right."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from evalkit.extraction import official
from evalkit.extraction.letters import stated_letter, stated_letters
from evalkit.extraction.mathematics import stated_answer
from evalkit.extraction.phrases import LETTERS
from evalkit.extraction.series import stated_series
from evalkit.math_equality import equal_answers, same_normal_form

if TYPE_CHECKING:
    from evalkit.types import Question

LADDERS = ("robust", *official.ONE, "gaokao")


def read(ladder: str, reply: str, question: Question, symbols: str = LETTERS) -> str | None:
    """What *reply* answers to *question*; of a reply to several questions, to the one that is *question*.

    :param symbols: what the prompt calls the options, in place of A, B, ….
    :returns: a letter, letters in alphabetical order (``multiple``), a text (``cloze``), or ``None`` where no answer is stated.
    :raises KeyError: for a ladder that is none of :data:`LADDERS`.
    """
    letters = LETTERS[: len(question.options)]
    if question.options and symbols[: len(letters)] != letters:
        reply = _in_letters(reply, symbols[: len(letters)])
    if ladder == "gaokao":
        return official.gaokao(reply, question)
    if ladder != "robust":
        return official.ONE[ladder](reply, question)
    if question.parts > 1:
        return stated_series(reply, letters, question.parts)[question.part]
    if question.kind == "cloze":
        return stated_answer(reply)
    return (stated_letters if question.kind == "multiple" else stated_letter)(reply, question.options)


def is_right(ladder: str, question: Question, prediction: str | None) -> bool:
    """Whether *prediction* is the gold answer: the letter, the same set of letters, or for cloze an equal answer.

    The benchmarks' ladders compare cloze answers as MATH does (:func:`~evalkit.math_equality.same_normal_form`), the robust one by
    value. The dollars around a formula don't matter on either side: AGIEval's few-shot ladder keeps them, its other ones drop them.
    """
    if prediction is None:
        return False
    if question.kind == "cloze":
        answer, gold = (text.strip().strip("$") for text in (prediction, question.gold))
        return (equal_answers if ladder == "robust" else same_normal_form)(answer, gold)
    return set(prediction) == set(question.gold)


def _in_letters(reply: str, symbols: str) -> str:
    """The reply with A, B, … for the symbols that stand alone in it."""
    found = re.compile(rf"(?<![0-9A-Za-z])[{re.escape(symbols)}](?![0-9A-Za-z])")
    return found.sub(lambda symbol: LETTERS[symbols.index(symbol[0])], reply)
