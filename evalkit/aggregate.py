"""Samples → a score: shares of right answers over all, by subject and by category, with intervals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

from evalkit.statistics import choice_accuracy, macro_interval, wilson
from evalkit.types import Sample
from modelkit.records import MethodScore, SubjectScore


def share_right(samples: Sequence[Sample], metric: str, official: Literal["micro", "macro"], **extra: Any) -> MethodScore:
    """The share of right answers among the scored samples.

    A category's share is averaged as the official number is: over its questions (micro) or over its subjects (macro).

    :param extra: further fields of the score.
    """
    scored = [sample for sample in samples if sample.correct is not None]
    subjects = {
        subject: _row(group, "micro", next(iter(group[0].item.categories), None)) for subject, group in _by_subject(samples).items()
    }
    score = MethodScore(
        metric=metric,
        value=None,
        n=len(samples),
        unscored=len(samples) - len(scored),
        official=official,
        subjects=subjects,
        categories={name: _row(group, official) for name, group in _by_category(samples).items()},
        **extra,
    )
    if scored:
        score.micro, score.macro = _averages(scored)
        score.value = score.micro if official == "micro" else score.macro
        if official == "micro":
            score.ci95 = wilson(sum(sample.correct is True for sample in scored), len(scored))
        else:
            groups = [[sample.correct is True for sample in group] for group in _by_subject(scored).values()]
            score.ci95 = macro_interval([sum(group) for group in groups], [len(group) for group in groups])
    return score


def reasons(samples: Sequence[Sample]) -> dict[str, int]:
    """How many samples are unscored for which reason."""
    return dict(Counter(sample.reason for sample in samples if sample.reason is not None))


def shots_used(samples: Sequence[Sample]) -> dict[str, int]:
    """How many of the scored questions were asked with how many shots, by number of shots."""
    counts = Counter(sample.shots_used for sample in samples if sample.shots_used is not None)
    return {str(shots): counts[shots] for shots in sorted(counts)}


def _averages(scored: Sequence[Sample]) -> tuple[float, float]:
    found = choice_accuracy(
        ["right" if sample.correct else "wrong" for sample in scored], ["right"] * len(scored), [sample.item.subject for sample in scored]
    )
    return found["micro"], found["macro"]


def _row(group: Sequence[Sample], official: Literal["micro", "macro"], category: str | None = None) -> SubjectScore:
    scored = [sample for sample in group if sample.correct is not None]
    accuracy = _averages(scored)[official == "macro"] if scored else None
    return SubjectScore(n=len(group), unscored=len(group) - len(scored), accuracy=accuracy, category=category)


def _by_subject(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.item.subject, []).append(sample)
    return groups


def _by_category(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        for category in sample.item.categories:
            groups.setdefault(category, []).append(sample)
    return groups
