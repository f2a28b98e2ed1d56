"""What judgments come to: each contestant's score or win rate by language and category, ratings, and whether they may be ranked."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalkit import ratings
from evalkit.judge.answers import Answer
from evalkit.ratings import Game, Ratings
from evalkit.statistics import ratio_interval
from modelkit.records import Judgment, MethodScore

LENGTH_CONTROL = 100
"""Comparisons below which the influence of length can't be told from chance."""


@dataclass(frozen=True)
class Battle:
    """A battle's outcome over all languages.

    :param consistent: share of the comparisons in which both orders had the same outcome; ``None`` where none was asked twice.
    :param first: share of all decided verdicts that went to the answer shown first; ½ without a position bias.
    """

    games: list[Game]
    ratings: Ratings
    controlled: Ratings | None
    consistent: float | None
    first: float | None


def scores(judgments: Sequence[Judgment], answers: Mapping[tuple, Answer], model: str) -> dict[str, MethodScore]:
    """A contestant's mean score in 1…10 by language."""
    return {language: _score(own, answers, model) for language, own in _by_language(judgments, model).items()}


def battle(judgments: Sequence[Judgment], seed: int = 0) -> Battle:
    """All comparisons as games, rated."""
    games = list(_games(judgments))
    asked = [one for one in judgments if len(one.orders) == 2 and None not in one.orders]
    firsts = Counter(name for one in asked for name in (one.orders[0], {"a": "b", "b": "a"}.get(one.orders[1] or "", "tie")))
    decided = firsts["a"] + firsts["b"]
    return Battle(
        games,
        ratings.fit(games, seed=seed),
        ratings.fit(games, length_control=True, seed=seed) if len(games) >= LENGTH_CONTROL else None,
        sum(one.orders[0] == one.orders[1] for one in asked) / len(asked) if asked else None,
        firsts["a"] / decided if decided else None,
    )


def win_rates(
    judgments: Sequence[Judgment], answers: Mapping[tuple, Answer], model: str, battles: Mapping[str, Battle]
) -> dict[str, MethodScore]:
    """A contestant's win rate against those it met, by language, with its rating among them.

    :param battles: the outcome in each language.
    """
    found = {}
    for language, own in _by_language(judgments, model).items():
        spoken = battles[language]
        rate = ratings.win_rate(spoken.games, model)
        row = next((row for row in spoken.ratings.rows if row.player == model), None)
        found[language] = MethodScore(
            metric="win_rate",
            value=rate[0] if rate else None,
            n=len(own),
            unscored=sum(one.winner is None for one in own),
            ci95=rate[1] if rate else None,
            opponents=sorted({answer.model for one in own for answer in one.answers} - {model}),
            rating=row.rating if row else None,
            rating_ci95=row.ci95 if row else None,
            rating_reason=row.reason if row else "no comparison was scored",
            length_controlled_win_rate=controlled_win_rate(spoken, model),
            position_consistency=spoken.consistent,
            by_category=_grouped(own, lambda one: one.category, lambda one: _points(one, model)),
            **_shape(answers, model, language),
        )
    return found


def controlled_win_rate(found: Battle, model: str) -> float | None:
    """The mean over its games of a contestant's chance to win at equal length; ``None`` where there is no such fit."""
    if found.controlled is None:
        return None
    met = Counter(game.b if game.a == model else game.a for game in found.games if model in (game.a, game.b))
    rates = {other: found.controlled.win_rate(model, other) for other in met}
    if not rates or any(rate is None for rate in rates.values()):
        return None
    return sum(met[other] * rate[0] for other, rate in rates.items() if rate) / sum(met.values())


def unequal(judgments: Iterable[Judgment], names: Sequence[str]) -> str | None:
    """Why contestants can't be ranked: not the same number of judgments without a verdict. ``None`` when they can."""
    missing = dict.fromkeys(names, 0)
    for one in judgments:
        if one.score is None and one.winner is None:
            for answer in one.answers:
                missing[answer.model] += 1
    if len(set(missing.values())) <= 1:
        return None
    listed = ", ".join(f"{name} {count:,}" for name, count in missing.items())
    return f"not ranked, since they are unscored unequally often ({listed}): --allow-unequal ranks them all the same."


def reasons(judgments: Iterable[Judgment]) -> dict[str, int]:
    """How often each reason kept a judgment from a verdict."""
    return dict(Counter(one.unscored for one in judgments if one.unscored))


def _score(own: Sequence[Judgment], answers: Mapping[tuple, Answer], model: str) -> MethodScore:
    by_prompt: dict[str, list[float]] = {}
    for one in own:
        if one.score is not None:
            by_prompt.setdefault(one.prompt, []).append(one.score)
    sums, counts = [sum(values) for values in by_prompt.values()], [float(len(values)) for values in by_prompt.values()]
    interval = ratio_interval(sums, counts)
    turns = {one.turn for one in own}
    return MethodScore(
        metric="score",
        value=sum(sums) / sum(counts) if counts else None,
        n=len(own),
        unscored=sum(one.score is None for one in own),
        ci95=(max(1.0, interval[0]), min(10.0, interval[1])) if interval else None,
        by_category=_grouped(own, lambda one: one.category, lambda one: one.score),
        by_turn=_grouped(own, lambda one: str(one.turn), lambda one: one.score) if len(turns) > 1 else {},
        criteria=_criteria(own),
        **_shape(answers, model, own[0].language or ""),
    )


def _shape(answers: Mapping[tuple, Answer], model: str, language: str) -> dict[str, Any]:
    """What a contestant's answers are like, whoever judges them."""
    own = [answer for answer in answers.values() if answer.model == model and answer.language == language and answer.unanswered is None]
    if not own:
        return {}
    return {
        "language_match": sum(answer.in_language for answer in own) / len(own),
        "characters": statistics.fmean(len(answer.text) for answer in own),
        "cut_off": sum(answer.finish == "length" for answer in own),
    }


def _by_language(judgments: Iterable[Judgment], model: str) -> dict[str, list[Judgment]]:
    found: dict[str, list[Judgment]] = {}
    for one in judgments:
        if any(answer.model == model for answer in one.answers):
            found.setdefault(one.language or "", []).append(one)
    return found


def _grouped(own: Sequence[Judgment], group: Any, value: Any) -> dict[str, dict[str, Any]]:
    """Number, unscored and mean value of each group."""
    groups: dict[str, list[float | None]] = {}
    for one in own:
        groups.setdefault(group(one) or "", []).append(value(one))
    found = {}
    for name, values in groups.items():
        scored = [one for one in values if one is not None]
        found[name] = {
            "n": len(values),
            "unscored": len(values) - len(scored),
            "value": statistics.fmean(scored) if scored else None,
        }
    return found


def _criteria(own: Sequence[Judgment]) -> dict[str, float]:
    """The mean score by each criterion, over the answers that it was applied to."""
    found: dict[str, list[float]] = {}
    for one in own:
        for name, value in one.criteria.items():
            found.setdefault(name, []).append(value)
    return {name: statistics.fmean(values) for name, values in found.items()}


def _points(one: Judgment, model: str) -> float | None:
    if one.winner is None:
        return None
    if one.winner == "tie":
        return 0.5
    return float(one.answers[0 if one.winner == "a" else 1].model == model)


def _games(judgments: Iterable[Judgment]) -> Iterable[Game]:
    for one in judgments:
        if one.winner is not None:
            a, b = one.answers
            yield Game(a.model, b.model, one.winner, float(a.characters - b.characters), f"{one.language}/{one.prompt}")
