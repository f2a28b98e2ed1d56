"""Samples → a score: shares of right answers over all, by subject and by category, with intervals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from evalkit.credit import Average, earned
from evalkit.metrics.choice_accuracy.formula import choice_accuracy
from evalkit.metrics.multi_answer.formula import multi_answer
from evalkit.statistics import macro_interval, ratio_interval, wilson
from evalkit.types import Question, Sample
from modelkit.records import MethodScore, SubjectScore


def share_right(samples: Sequence[Sample], metric: str, official: Average, **extra: Any) -> MethodScore:
    """The share of right answers among the scored samples.

    A category's share is averaged as the official number is: over its questions (micro), its subjects (macro) or its points. Where
    points count, a subject's share is one of points too.

    :param extra: further fields of the score.
    """
    scored = [sample for sample in samples if sample.correct is not None]
    subjects = {
        subject: _row(group, "points" if official == "points" else "micro", next(iter(group[0].item.categories), None))
        for subject, group in _by_subject(samples).items()
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
        score.value = _points(scored) if official == "points" else score.macro if official == "macro" else score.micro
        if official == "micro":
            score.ci95 = wilson(sum(sample.correct is True for sample in scored), len(scored))
        elif official == "macro":
            groups = [[sample.correct is True for sample in group] for group in _by_subject(scored).values()]
            score.ci95 = macro_interval([sum(group) for group in groups], [len(group) for group in groups])
        else:
            rows = _by_row(scored)
            score.ci95 = ratio_interval([sum(map(earned, row)) for row in rows], [sum(map(_worth, row)) for row in rows])
    return score


def reasons(samples: Sequence[Sample]) -> dict[str, int]:
    """How many samples are unscored for which reason."""
    return dict(Counter(sample.reason for sample in samples if sample.reason is not None))


def shots_used(samples: Sequence[Sample]) -> dict[str, int]:
    """How many of the scored questions were asked with how many shots, by number of shots."""
    counts = Counter(sample.shots_used for sample in samples if sample.shots_used is not None)
    return {str(shots): counts[shots] for shots in sorted(counts)}


def lost(samples: Sequence[Sample]) -> dict[str, int]:
    """How many prompts were asked without their header, and how many were cut on the left."""
    return {
        "headers_dropped": sum("header_dropped" in sample.extra for sample in samples),
        "prompts_cut": sum("tokens_cut" in sample.extra for sample in samples),
    }


def several_right(samples: Sequence[Sample]) -> dict[str, Any]:
    """Of the scored questions with several right options: equal sets and partial credit; nothing where there are none."""
    own = [
        sample for sample in samples if sample.correct is not None and isinstance(sample.item, Question) and sample.item.kind == "multiple"
    ]
    if not own:
        return {}
    return {"multiple": {"n": len(own), **multi_answer([sample.prediction or "" for sample in own], [sample.gold or "" for sample in own])}}


def _averages(scored: Sequence[Sample]) -> tuple[float, float]:
    found = choice_accuracy(
        ["right" if sample.correct else "wrong" for sample in scored], ["right"] * len(scored), [sample.item.subject for sample in scored]
    )
    return found["micro"], found["macro"]


def _points(scored: Sequence[Sample]) -> float:
    """The share of all points that was earned."""
    return sum(map(earned, scored)) / sum(map(_worth, scored))


def _worth(sample: Sample) -> float:
    assert isinstance(sample.item, Question)
    return sample.item.points


def _by_row(samples: Sequence[Sample]) -> list[list[Sample]]:
    """Samples of the same row of a file together: their answers come from one prompt, so they are no independent draws."""
    rows: dict[tuple[str, str], list[Sample]] = {}
    for sample in samples:
        subject, _, row = sample.item.id.rpartition("/")
        rows.setdefault((subject, row.partition(".")[0]), []).append(sample)
    return list(rows.values())


def _row(group: Sequence[Sample], official: Average, category: str | None = None) -> SubjectScore:
    scored = [sample for sample in group if sample.correct is not None]
    accuracy = None
    if scored:
        accuracy = _points(scored) if official == "points" else _averages(scored)[official == "macro"]
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
