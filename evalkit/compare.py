"""Two results over the same questions: which is better, by how much, how surely, and which answers flipped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from evalkit.calibration import normalised
from evalkit.recorded import Line, Recorded
from evalkit.statistics import Interval, holm, mcnemar, paired_interval
from modelkit.errors import UserError
from modelkit.records import TaskScore


@dataclass(frozen=True)
class Flip:
    """A question that one result answers right and the other wrong. ``gain`` is how much likelier B finds the right letter."""

    task: str
    method: str
    id: str
    gold: str | None
    a: str | None
    b: str | None
    right: Literal["a", "b"]
    gain: float | None


@dataclass(frozen=True)
class Paired:
    """The questions that both results scored, of a subject or of a whole task.

    :param a, b: share of right answers.
    :param only_a, only_b: questions that only one of them answered right.
    :param ci95: bootstrap interval of ``b - a``.
    :param p: exact McNemar test; for a subject adjusted over all subjects (Holm).
    """

    n: int
    a: float
    b: float
    only_a: int
    only_b: int
    ci95: Interval
    p: float

    @property
    def difference(self) -> float:
        """B's share minus A's."""
        return self.b - self.a


@dataclass(frozen=True)
class Comparison:
    """One task and method. ``average`` says what the shares of ``whole`` are averaged over: questions (micro) or subjects (macro).

    :param dropped: questions left out, by reason.
    """

    task: str
    method: str
    average: Literal["micro", "macro"]
    whole: Paired
    subjects: dict[str, Paired]
    flips: list[Flip]
    dropped: dict[str, int] = field(default_factory=dict)


def compare(a: Recorded, b: Recorded, common: bool = False, seed: int = 0) -> tuple[list[Comparison], list[str]]:
    """Compare every task and method that both results have. The second value are sentences on what could not be compared.

    :param common: compare the questions that both have, by id and right answer, where data or questions differ.
    :raises UserError: when a task's data, protocol or questions differ, or when there is nothing to compare.
    """
    found: list[Comparison] = []
    notes = [f"only in {path}: {', '.join(names)}" for path, names in ((a.folder, _only(a, b)), (b.folder, _only(b, a))) if names]
    for name in (name for name in a.result.tasks if name in b.result.tasks):
        left, right = a.result.tasks[name], b.result.tasks[name]
        _same_question_asked(name, left, right, common)
        notes += [f"{name}: A has {what} {one}, B has {other}" for what, one, other in _conditions(left, right)]
        for method in (method for method in left.methods if method in right.methods):
            pairs, dropped = _paired(name, a.lines(name, method), b.lines(name, method), common)
            if not pairs:
                reason = "has answers that are neither right nor wrong" if not dropped else "has no question that both scored"
                notes.append(f"{name} · {method}: {reason}, so it is not compared")
                continue
            average: Literal["micro", "macro"] = "macro" if (left.model_extra or {}).get("average") == "macro" else "micro"
            found.append(_compared(name, method, average, pairs, dropped, seed))
    if not found:
        raise UserError(f"{a.folder} and {b.folder} have nothing to compare: {'; '.join(notes) or 'no task is in both'}.")
    return found, notes


def _only(a: Recorded, b: Recorded) -> list[str]:
    return [name for name in a.result.tasks if name not in b.result.tasks]


def _conditions(a: TaskScore, b: TaskScore) -> Iterator[tuple[str, str, str]]:
    """How the two were asked differently: worth knowing, and often what is compared."""
    for what, one, other in (("shots", a.shots, b.shots), ("chat", a.chat, b.chat)):
        if one != other:
            yield what, str(one), str(other)


def _same_question_asked(name: str, a: TaskScore, b: TaskScore, common: bool) -> None:
    protocols = [(task.model_extra or {}).get("protocol") for task in (a, b)]
    if a.kind != b.kind or protocols[0] != protocols[1]:
        raise UserError(f"{name} was asked by two protocols ({protocols[0]}, {protocols[1]}), so its answers can't be paired.")
    if a.data != b.data and not common:
        raise UserError(
            f"{name} was measured on different data files, those of the shots included ({a.data[:15]}…, {b.data[:15]}…): --common pairs "
            "the questions that have the same id and the same right answer in both."
        )


def _paired(name: str, a: Sequence[Line], b: Sequence[Line], common: bool) -> tuple[list[tuple[Line, Line]], dict[str, int]]:
    """The lines of questions that both scored, and how many others there are for which reason.

    :raises UserError: unless *common*, when the two were not asked the same questions.
    """
    left, right = ({line.id: line for line in lines} for lines in (a, b))
    both = [id for id, line in left.items() if id in right and line.gold == right[id].gold]
    others = len(left.keys() | right.keys()) - len(both)
    if others and not common:
        raise UserError(
            f"{name}: {others:,} of {others + len(both):,} questions are not in both results: --common compares the other {len(both):,}."
        )
    measured = [(left[id], right[id]) for id in both if left[id].reason is None and right[id].reason is None]
    pairs = [(one, other) for one, other in measured if one.correct is not None and other.correct is not None]
    dropped = {"not in both": others, "unscored in one": len(both) - len(measured)}
    return pairs, {reason: count for reason, count in dropped.items() if count}


def _compared(
    task: str,
    method: str,
    average: Literal["micro", "macro"],
    pairs: Sequence[tuple[Line, Line]],
    dropped: dict[str, int],
    seed: int,
) -> Comparison:
    groups: dict[str, list[tuple[Line, Line]]] = {}
    for pair in pairs:
        groups.setdefault(pair[0].subject, []).append(pair)
    adjusted = holm([mcnemar(*_discordant(group)) for group in groups.values()])
    subjects = {subject: _measure([group], p, seed) for (subject, group), p in zip(groups.items(), adjusted, strict=True)}
    whole = _measure(list(groups.values()) if average == "macro" else [pairs], mcnemar(*_discordant(pairs)), seed)
    flips = [_flip(task, method, one, other) for one, other in pairs if one.correct != other.correct]
    return Comparison(task, method, average, whole, subjects, sorted(flips, key=lambda flip: -abs(flip.gain or 0.0)), dropped)


def _measure(groups: Sequence[Sequence[tuple[Line, Line]]], p: float, seed: int) -> Paired:
    """Shares of right answers as the mean over *groups* of each group's share."""
    shares = [[sum(pair[side].correct is True for pair in group) / len(group) for group in groups] for side in (0, 1)]
    differences = [[float(other.correct is True) - float(one.correct is True) for one, other in group] for group in groups]
    only_a, only_b = _discordant([pair for group in groups for pair in group])
    a, b = (sum(values) / len(groups) for values in shares)
    return Paired(sum(map(len, groups)), a, b, only_a, only_b, paired_interval(differences, seed), p)


def _discordant(pairs: Sequence[tuple[Line, Line]]) -> tuple[int, int]:
    """How many only A, and how many only B answered right."""
    return sum(one.correct is True and not other.correct for one, other in pairs), sum(
        other.correct is True and not one.correct for one, other in pairs
    )


def _flip(task: str, method: str, a: Line, b: Line) -> Flip:
    gain = None
    if method == "letters" and a.scores and b.scores and a.gold in a.scores and a.gold in b.scores:
        gain = normalised(b.scores)[a.gold] - normalised(a.scores)[a.gold]
    return Flip(task, method, a.id, a.gold, a.prediction, b.prediction, "a" if a.correct else "b", gain)
