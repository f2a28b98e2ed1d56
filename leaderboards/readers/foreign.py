"""What the readers of other harnesses' files share: scores, models and results whose weights nobody has verified."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelkit.records import MethodScore, ModelRecord, Result, Speed, SubjectScore, TaskScore

CHANCE = {
    "agieval": 0.25,
    "arc": 0.25,
    "arc_challenge": 0.25,
    "arc_easy": 0.25,
    "boolq": 0.5,
    "ceval": 0.25,
    "ceval-valid": 0.25,
    "cmmlu": 0.25,
    "copa": 0.5,
    "hellaswag": 0.25,
    "mmlu": 0.25,
    "openbookqa": 0.25,
    "piqa": 0.5,
    "winogrande": 0.5,
}
"""What guessing reaches on benchmarks with a fixed number of options; files of other harnesses don't say."""

_SHARES = {
    "acc": "accuracy",
    "accuracy": "accuracy",
    "acc_norm": "accuracy",
    "acc_bytes": "accuracy",
    "naive_average": "accuracy",
    "weighted_average": "accuracy",
    "exact_match": "exact_match",
    "em": "exact_match",
    "qem": "exact_match",
    "extractive_match": "exact_match",
    "f1": "f1",
    "mc1": "accuracy",
    "mc2": "accuracy",
    "pass@1": "pass@1",
    "score": "accuracy",
}
_Z = 1.959964


def score(metric: str, value: float, n: int | None, error: float | None = None, **more: Any) -> MethodScore:
    """A score of another harness.

    :param metric: the harness' name of it. One that isn't known to be a share is kept, shown as it is, and called ``raw``.
    :param n: the number of questions; ``None`` where the file doesn't say, which ends up as 0.
    :param error: the standard error, which becomes a normal 95 % interval.
    """
    share = _SHARES.get(metric) if 0.0 <= value <= 1.0 else None
    low, high = value - _Z * (error or 0.0), value + _Z * (error or 0.0)
    interval = (max(0.0, low), min(1.0, high)) if share else (low, high)
    raw = {} if share else {"raw": True}
    return MethodScore(metric=share or metric, value=value, n=n or 0, ci95=interval if error else None, **raw, **more)


def subject(value: float, n: int | None, category: str | None = None) -> SubjectScore:
    """A subject's row."""
    return SubjectScore(n=n or 0, accuracy=value, category=category)


def macro(subjects: Mapping[str, SubjectScore]) -> float | None:
    """The mean over the subjects that have a score."""
    values = [one.accuracy for one in subjects.values() if one.accuracy is not None]
    return sum(values) / len(values) if values else None


def micro(subjects: Mapping[str, SubjectScore]) -> float | None:
    """The mean over the questions; ``None`` where a subject's number of questions isn't known."""
    total = sum(one.n for one in subjects.values())
    if not total or any(not one.n or one.accuracy is None for one in subjects.values()):
        return None
    return sum(one.n * one.accuracy for one in subjects.values() if one.accuracy is not None) / total


def categories(subjects: Mapping[str, SubjectScore]) -> dict[str, SubjectScore]:
    """The micro average of each category; none where a number of questions isn't known."""
    names = dict.fromkeys(one.category for one in subjects.values() if one.category)
    found = {}
    for name in names:
        own = {key: one for key, one in subjects.items() if one.category == name}
        value = micro(own)
        if value is not None:
            found[name] = SubjectScore(n=sum(one.n for one in own.values()), accuracy=value)
    return found


def revised(model: str, revision: str | None) -> str:
    """A model's name with its revision: ``org/model@step1000``; the main one goes without."""
    return f"{model}@{revision}" if revision and revision != "main" else model


def task(
    kind: str, harness: str, name: str, methods: dict[str, MethodScore], data: str, shots: int = 0, chat: bool = False, **facts: Any
) -> TaskScore:
    """A task of another harness; *data* is what its file says of the version, as there is no hash that we could compare."""
    chance = CHANCE.get(name.lower())
    known = facts | ({"chance": chance} if chance is not None else {})
    return TaskScore(kind=kind, shots=shots, data=f"{harness}:{data}", chat=chat, methods=methods, harness=harness, **known)


def result(harness: str, model: str, when: str, tasks: dict[str, TaskScore], dtype: str = "unknown") -> Result:
    """A result of another harness. Its weights are known by name only."""
    return Result(
        id=f"{harness}-{model}-{when}",
        model=ModelRecord(path=model, fingerprint=f"unverified:{model}", dtype=dtype),
        tasks={f"{name}@{harness}": task for name, task in tasks.items()},
        speed=Speed(seconds=0.0, questions_per_s=0.0, tokens_computed=0),
        environment={},
    )
