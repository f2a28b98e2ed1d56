"""Ratings out of what people voted and judges said. Every source is rated by itself: people and judges are never mixed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from evalkit.ratings import Game, Ratings, fit
from evalkit.statistics import Interval, wilson
from modelkit.errors import DataError
from modelkit.records import Judgment, Vote

FEWEST_GAMES = 30
"""Games below which a player is said to have too few for a rating."""
_CONTROL = 100
"""Games below which the influence of length can't be told from chance."""
_ELO_K = 16.0
_POINTS = 200
"""Points of a curve of ratings over time."""


@dataclass(frozen=True)
class Agreement:
    """How often a reward model's rewards say the same as the people who preferred one reply."""

    reward_model: str
    agreed: int
    n: int

    @property
    def interval(self) -> Interval:
        """Wilson's 95 % interval of the share."""
        return wilson(self.agreed, self.n)


@dataclass(frozen=True)
class Standing:
    """The ratings of one source. Players are fingerprints; ``names`` is what the source calls them.

    :param judge: the judge's name; ``None`` for people.
    :param controlled: the fit with length taken out; ``None`` for fewer games than that needs.
    :param left_out: how many votes or judgments count for nothing, by reason.
    :param elo: (number of games, rating) of each player over time. Elo depends on the order of the games: history, no verdict.
    """

    judge: str | None
    games: list[Game]
    names: dict[str, str]
    ratings: Ratings
    controlled: Ratings | None
    left_out: dict[str, int] = field(default_factory=dict)
    elo: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    agreements: list[Agreement] = field(default_factory=list)

    @property
    def equal_length(self) -> dict[str, float]:
        """The rating at equal length of each player that has one."""
        rows = self.controlled.rows if self.controlled else []
        return {row.player: row.rating for row in rows if row.rating is not None}


def of_votes(votes: Iterable[Vote]) -> Standing | None:
    """What people said, in blind votes that nobody has rejected; two bad replies are a tie. ``None`` without any vote.

    Votes of one session are resampled together, since they are one person's.
    """
    left_out: Counter[str] = Counter()
    games: list[Game] = []
    names: dict[str, str] = {}
    rewards: dict[str, Counter[bool]] = {}
    for vote in votes:
        why = _unusable(vote)
        if why:
            left_out[why] += 1
            continue
        names |= {side.fingerprint: side.checkpoint for side in (vote.a, vote.b)}
        winner: Literal["a", "b", "tie"] = "tie" if vote.winner in ("tie", "both_bad") else vote.winner  # type: ignore[assignment]
        difference = float(len(vote.a.reply) - len(vote.b.reply))
        games.append(Game(vote.a.fingerprint, vote.b.fingerprint, winner, difference, vote.session))
        if vote.reward_model and vote.agreed is not None:
            rewards.setdefault(vote.reward_model, Counter())[vote.agreed] += 1
    if not games and not left_out:
        return None
    agreements = [Agreement(name, said[True], said.total()) for name, said in rewards.items()]
    return _standing(None, games, names, left_out, agreements)


def of_judgings(folders: Iterable[Path]) -> tuple[list[Standing], list[str]]:
    """What each judge said in all its battles, and a sentence for each file that can't be read."""
    games: dict[str, list[Game]] = {}
    left_out: dict[str, Counter[str]] = {}
    names: dict[str, str] = {}
    damaged, seen = [], set()
    for folder in folders:
        try:
            judgments = _judgments(folder / "judgments.jsonl")
        except DataError as error:
            damaged.append(str(error))
            continue
        for one in judgments:
            if one.mode != "pairwise" or (one.judge, one.id) in seen:
                continue
            seen.add((one.judge, one.id))
            if one.winner is None:
                left_out.setdefault(one.judge, Counter())["unscored"] += 1
                continue
            a, b = one.answers
            names |= {answer.fingerprint: answer.model for answer in one.answers}
            game = Game(a.fingerprint, b.fingerprint, one.winner, float(a.characters - b.characters), f"{one.language}/{one.prompt}")
            games.setdefault(one.judge, []).append(game)
    return [_standing(judge, own, names, left_out.get(judge, Counter()), []) for judge, own in games.items()], damaged


def _standing(
    judge: str | None, games: list[Game], names: Mapping[str, str], left_out: Mapping[str, int], agreements: list[Agreement]
) -> Standing:
    players = {player for game in games for player in (game.a, game.b)}
    controlled = fit(games, length_control=True, resamples=0) if len(games) >= _CONTROL else None
    own = {player: names[player] for player in sorted(players)}
    return Standing(judge, games, own, fit(games), controlled, dict(left_out), elo(games) if judge is None else {}, agreements)


def elo(games: Sequence[Game]) -> dict[str, list[tuple[int, float]]]:
    """Each player's Elo rating over the games in their order, from 1000 on, at about 200 points in time (K = 16)."""
    ratings: dict[str, float] = {}
    history: dict[str, list[tuple[int, float]]] = {}
    every = max(1, len(games) // _POINTS)
    for number, game in enumerate(games, 1):
        a, b = ratings.get(game.a, 1000.0), ratings.get(game.b, 1000.0)
        gain = _ELO_K * (game.points - 1.0 / (1.0 + 10.0 ** ((b - a) / 400.0)))
        ratings[game.a], ratings[game.b] = a + gain, b - gain
        if number % every == 0 or number == len(games):
            for player, rating in ratings.items():
                history.setdefault(player, []).append((number, rating))
    return history


def read_votes(file: Path) -> Iterable[Vote]:
    """The votes of an exported JSONL file.

    :raises DataError: at a line that is no vote.
    """
    for number, line in enumerate(_lines(file), 1):
        try:
            yield Vote.model_validate_json(line)
        except ValidationError as error:
            raise DataError(f"{file}:{number} is no vote ({error.errors()[0]['msg']}): export with `leaderboards votes export`.") from None


def _judgments(file: Path) -> list[Judgment]:
    found = []
    for number, line in enumerate(_lines(file), 1):
        try:
            found.append(Judgment.model_validate_json(line))
        except ValidationError as error:
            raise DataError(f"{file}:{number} is no judgment ({error.errors()[0]['msg']}): judge again, the journal helps.") from None
    return found


def _lines(file: Path) -> list[str]:
    try:
        return [line for line in file.read_text(encoding="utf-8").split("\n") if line.strip()]
    except FileNotFoundError:
        raise DataError(f"there is no file {file}.") from None
    except UnicodeDecodeError:
        raise DataError(f"{file} is no UTF-8 text.") from None


def _unusable(vote: Vote) -> str | None:
    if vote.status == "rejected":
        return "rejected"
    if not vote.blind:
        return "not blind"
    return "a model against itself" if vote.a.fingerprint == vote.b.fingerprint else None
