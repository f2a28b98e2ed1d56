"""Option order: does a model choose the answer, or its place?

A question is asked once for each of its options, the options shifted by one place each time, so that each stands at every letter
exactly once (cyclic permutations; Zheng et al. 2024, "Large language models are not robust multiple choice selectors").
"""

from __future__ import annotations

import dataclasses
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TypedDict

from evalkit.types import LETTERS, ChoiceTask, Question, Sample

_SHIFTED = re.compile(r"(.+)~(\d+)")


class Place(TypedDict):
    """A letter over all permutations: how often it was chosen, how often it was right, and chosen when it was right (recall)."""

    chosen: float
    right: float
    recall: float


class Robustness(TypedDict):
    """What the permutations of the options show; shares are over the ``n`` questions scored in all of their permutations.

    ``accuracy`` is by shift, 0 being the order of the data; ``consistency`` is the share of questions whose chosen text is
    always the same; ``recall_sd`` is the standard deviation of the letters' recalls, 0 for a model without a position bias.
    ``single`` questions have one order only.
    """

    n: int
    single: int
    unscored: int
    accuracy: list[float]
    mean: float | None
    consistency: float | None
    recall_sd: float | None
    places: dict[str, Place]


def shift_of(id: str) -> int:
    """By how many places the options of a sample's question were shifted."""
    match = _SHIFTED.fullmatch(id)
    return int(match[2]) if match else 0


def origin(id: str) -> str:
    """The id of the question that was permuted."""
    match = _SHIFTED.fullmatch(id)
    return match[1] if match else id


def permuted(task: ChoiceTask) -> ChoiceTask:
    """The task with its questions in every cyclic order of their options, ``<id>~1``, ``<id>~2``, … after ``<id>`` itself.

    Questions with several right letters, without options or without a public answer stay as they are. "None of the above" moves
    like any other option.
    """
    items: list[Question] = []
    for item in task.items:
        shifts = len(item.options) if item.kind == "single" and item.gold else 1
        items += [shifted(item, places) for places in range(max(shifts, 1))]
    return dataclasses.replace(task, items=items)


def shifted(question: Question, places: int) -> Question:
    """The question with its options, and its right letter, moved down by *places*; the last come first."""
    if places == 0:
        return question
    k = len(question.options)
    options = tuple(question.options[(i - places) % k] for i in range(k))
    gold = LETTERS[(LETTERS.index(question.gold) + places) % k]
    return dataclasses.replace(question, id=f"{question.id}~{places}", options=options, gold=gold)


def unpermuted(samples: Iterable[Sample]) -> list[Sample]:
    """The samples of the questions in their own order: those that a score is made of."""
    return [sample for sample in samples if shift_of(sample.item.id) == 0]


def robustness(samples: Sequence[Sample]) -> Robustness:
    """What *samples*, of one method and all permutations, show."""
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(origin(sample.item.id), []).append(sample)
    turned = [group for group in groups.values() if len(group) > 1]
    whole = [group for group in turned if all(sample.correct is not None for sample in group)]
    flat = [sample for group in whole for sample in group]
    chosen, right = (Counter(values) for values in ([one.prediction for one in flat], [one.gold for one in flat]))
    hits = Counter(sample.gold for sample in flat if sample.correct)
    letters = [letter for letter in LETTERS if letter in right]
    recalls = [hits[letter] / right[letter] for letter in letters]
    shifts = sorted({shift_of(sample.item.id) for sample in flat})
    return {
        "n": len(whole),
        "single": len(groups) - len(turned),
        "unscored": len(turned) - len(whole),
        "accuracy": [_accuracy([one for one in flat if shift_of(one.item.id) == shift]) for shift in shifts],
        "mean": _accuracy(flat) if flat else None,
        "consistency": sum(_same_text(group) for group in whole) / len(whole) if whole else None,
        "recall_sd": statistics.pstdev(recalls) if recalls else None,
        "places": {
            letter: {"chosen": chosen[letter] / len(flat), "right": right[letter] / len(flat), "recall": recall}
            for letter, recall in zip(letters, recalls, strict=True)
        },
    }


def _same_text(group: Sequence[Sample]) -> bool:
    """Whether the same text was chosen in every order; having found no answer in any is no choice."""
    return len({_text(sample) for sample in group}) == 1 and group[0].prediction is not None


def _text(sample: Sample) -> str | None:
    assert isinstance(sample.item, Question)
    return sample.item.options[LETTERS.index(sample.prediction)] if sample.prediction else None


def _accuracy(samples: Sequence[Sample]) -> float:
    return sum(sample.correct is True for sample in samples) / len(samples)
