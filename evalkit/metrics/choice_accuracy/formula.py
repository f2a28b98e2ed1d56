"""Accuracy over questions and over subjects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict


class Accuracy(TypedDict):
    """Shares of right answers over all questions (micro), as the mean of the subjects' shares (macro), and by subject."""

    micro: float
    macro: float
    subjects: dict[str, float]


def choice_accuracy(predictions: Sequence[str], references: Sequence[str], subjects: Sequence[str]) -> Accuracy:
    """Accuracy over questions and over subjects; the three sequences are parallel and not empty."""
    right: dict[str, list[bool]] = {}
    for prediction, reference, subject in zip(predictions, references, subjects, strict=True):
        right.setdefault(subject, []).append(prediction == reference)
    shares = {subject: sum(answers) / len(answers) for subject, answers in right.items()}
    return {
        "micro": sum(map(sum, right.values())) / len(predictions),
        "macro": sum(shares.values()) / len(shares),
        "subjects": shares,
    }
