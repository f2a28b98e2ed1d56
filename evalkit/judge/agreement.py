"""How far a judge agrees with people, or with another judge, about which of two replies is better.

Opinions meet over the two conversations that were compared, whoever compared them and in whichever order; a judge that gave scores
prefers the answer with the higher one. Votes of "both bad" count as ties. Beside the share of equal opinions stands Cohen's κ
(Cohen 1960): how far they agree beyond what their habits alone would bring about, 0 for none and 1 for always.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from pydantic import ValidationError

from evalkit.judge.formats import objects, text_of
from evalkit.judge.verdicts import Winner
from evalkit.statistics import Interval, wilson
from modelkit.errors import DataError
from modelkit.records import Answered, Judgment, Side, Vote

_SWAPPED: dict[Winner, Winner] = {"a": "b", "b": "a", "tie": "tie"}

Compared = tuple[str, str]
"""The sha256 of the two conversations, in alphabetical order."""


@dataclass(frozen=True)
class Opinion:
    """That the first (``a``) or the second conversation is better, or neither."""

    winner: Winner
    category: str | None
    language: str | None


@dataclass(frozen=True)
class Opinions:
    """All that one side thinks. ``left_out`` counts what it has no opinion about, by reason; ``scores`` are by conversation."""

    name: str
    by_pair: dict[Compared, list[Opinion]]
    scores: dict[str, float]
    left_out: dict[str, int]


@dataclass(frozen=True)
class Agreement:
    """How often two agree over ``n`` comparisons; ``decided`` are those among them where neither calls a tie.

    ``kappa`` is ``None`` where one of them always says the same, so that agreement beyond chance has no meaning.
    """

    group: str
    n: int
    equal: float
    equal_ci95: Interval
    kappa: float | None
    kappa_ci95: Interval | None
    decided: int
    decided_equal: float | None


def read(path: Path) -> Opinions:
    """The opinions in a judged folder, its ``judgments.jsonl``, or a file of exported votes.

    :raises DataError: when *path* is none of these.
    """
    file = path / "judgments.jsonl" if path.is_dir() else path
    judgments, votes = [], []
    for place, entry in objects(text_of(file), str(file)):
        try:
            if "judge" in entry:
                judgments.append(Judgment.model_validate(entry))
            else:
                votes.append(Vote.model_validate(entry))
        except ValidationError as error:
            raise DataError(f"{place} is neither a judgment nor a vote ({error.errors()[0]['msg']}): see docs/judge.md.") from None
    if votes and judgments:
        raise DataError(f"{file} mixes votes and judgments: give each a file of its own.")
    if not votes and not judgments:
        raise DataError(f"{file} is empty: it holds neither votes nor judgments.")
    return of_votes(votes, str(path)) if votes else of_judgments(judgments, f"{judgments[0].judge} ({path})")


def of_votes(votes: Iterable[Vote], name: str) -> Opinions:
    """What people think. Rejected votes are left out."""
    by_pair: dict[Compared, list[Opinion]] = {}
    left_out: Counter[str] = Counter()
    for vote in votes:
        if vote.status == "rejected":
            left_out["rejected vote"] += 1
            continue
        winner: Winner = "tie" if vote.winner == "both_bad" else vote.winner
        _add(by_pair, left_out, vote.a, vote.b, winner, vote.category, vote.language)
    return Opinions(name, by_pair, {}, dict(left_out))


def of_judgments(judgments: Sequence[Judgment], name: str) -> Opinions:
    """What a judge thinks: its comparisons, and what follows from its scores of answers to the same prompt."""
    by_pair: dict[Compared, list[Opinion]] = {}
    left_out: Counter[str] = Counter()
    scored: dict[tuple[str | None, str, int], list[Judgment]] = {}
    for one in judgments:
        if one.mode == "pairwise" and one.winner is not None:
            _add(by_pair, left_out, one.answers[0], one.answers[1], one.winner, one.category, one.language)
        elif one.mode == "single" and one.score is not None:
            scored.setdefault((one.language, one.prompt, one.turn), []).append(one)
        else:
            left_out[one.unscored or "no verdict"] += 1
    for group in scored.values():
        for first, second in combinations(group, 2):
            gap = (first.score or 0.0) - (second.score or 0.0)
            winner: Winner = "a" if gap > 0 else "b" if gap < 0 else "tie"
            _add(by_pair, left_out, first.answers[0], second.answers[0], winner, first.category, first.language)
    by_pair = {compared: opinions[:1] for compared, opinions in by_pair.items()}  # two contestants that said the same count once
    scores = {one.answers[0].sha256: one.score for group in scored.values() for one in group if one.score is not None}
    return Opinions(name, by_pair, scores, dict(left_out))


def compare(left: Opinions, right: Opinions, seed: int = 0) -> list[Agreement]:
    """Agreement over all that both compared, then by language and by category.

    :raises DataError: when they have no comparison in common.
    """
    met = [
        (compared, mine, yours)
        for compared, opinions in left.by_pair.items()
        for mine in opinions
        for yours in right.by_pair.get(compared, [])
    ]
    if not met:
        raise DataError(f"{left.name} and {right.name} never compared the same two replies: judge the votes with `evalkit judge votes`.")
    groups: dict[str, list[tuple[Compared, Opinion, Opinion]]] = {"all": met}
    grouping: tuple[Callable[[Opinion], str | None], ...] = (lambda one: one.language, lambda one: one.category)
    for of in grouping:
        for name in sorted({of(mine) or of(yours) or "" for _, mine, yours in met} - {""}):
            groups[name] = [one for one in met if (of(one[1]) or of(one[2])) == name]
    return [_agreement(name, rows, seed) for name, rows in groups.items()]


def correlation(left: Opinions, right: Opinions) -> tuple[int, float] | None:
    """Spearman's rank correlation of the scores both gave, and of how many; ``None`` below three, or where one's never vary."""
    from scipy.stats import spearmanr

    both = sorted(left.scores.keys() & right.scores.keys())
    pairs = [(left.scores[key], right.scores[key]) for key in both]
    if len(pairs) < 3 or any(len(set(values)) < 2 for values in zip(*pairs, strict=True)):
        return None
    return len(pairs), float(spearmanr(*zip(*pairs, strict=True)).statistic)


def kappa(pairs: Sequence[tuple[Winner, Winner]]) -> float | None:
    """Cohen's κ; ``None`` where the agreement expected by chance is complete."""
    n = len(pairs)
    mine, yours = Counter(pair[0] for pair in pairs), Counter(pair[1] for pair in pairs)
    expected = sum(mine[name] * yours[name] for name in mine) / n**2
    observed = sum(one == other for one, other in pairs) / n
    return None if expected >= 1.0 else (observed - expected) / (1.0 - expected)


def _agreement(name: str, rows: Sequence[tuple[Compared, Opinion, Opinion]], seed: int) -> Agreement:
    pairs = [(mine.winner, yours.winner) for _, mine, yours in rows]
    same = sum(mine == yours for mine, yours in pairs)
    decided = [pair for pair in pairs if "tie" not in pair]
    return Agreement(
        name,
        len(pairs),
        same / len(pairs),
        wilson(same, len(pairs)),
        kappa(pairs),
        _kappa_interval(rows, seed),
        len(decided),
        sum(mine == yours for mine, yours in decided) / len(decided) if decided else None,
    )


def _kappa_interval(rows: Sequence[tuple[Compared, Opinion, Opinion]], seed: int, resamples: int = 500) -> Interval | None:
    """95 % percentile bootstrap over the compared pairs, all opinions on a pair together."""
    import numpy

    by_pair: dict[Compared, list[tuple[Winner, Winner]]] = {}
    for compared, mine, yours in rows:
        by_pair.setdefault(compared, []).append((mine.winner, yours.winner))
    groups = list(by_pair.values())
    draw = numpy.random.default_rng(seed)
    found = []
    for _ in range(resamples):
        chosen = [pair for k in draw.integers(len(groups), size=len(groups)) for pair in groups[k]]
        value = kappa(chosen)
        if value is not None:
            found.append(value)
    if len(found) < 0.95 * resamples:
        return None
    low, high = numpy.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def _add(
    by_pair: dict[Compared, list[Opinion]],
    left_out: Counter[str],
    a: Answered | Side,
    b: Answered | Side,
    winner: Winner,
    category: str | None,
    language: str | None,
) -> None:
    """Keep an opinion under the two conversations in alphabetical order. About one conversation twice there is none to have."""
    if a.sha256 == b.sha256:
        left_out["the two replies are the same"] += 1
        return
    if a.sha256 > b.sha256:
        a, b = b, a
        winner = _SWAPPED[winner]
    by_pair.setdefault((a.sha256, b.sha256), []).append(Opinion(winner, category, language))
