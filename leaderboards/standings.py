"""Ratings out of what people voted and judges said. Every source is rated by itself: people and judges are never mixed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import ValidationError

from evalkit.ratings import Game, Ratings, fit
from evalkit.statistics import Interval, wilson
from modelkit.errors import DataError
from modelkit.fingerprint import sha256_of_text
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


class _Judge(NamedTuple):
    """Who judged: what people call it, and what decides its verdicts."""

    name: str
    identity: str


@dataclass(frozen=True)
class Standing:
    """The ratings of one source. Players are fingerprints; ``names`` is what the source calls them.

    :param judge: the judge's name, with a mark where another one has the same; ``None`` for people.
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
    """What each judge said in all its battles, and a sentence for each file that can't be read.

    Judges are told apart by their weights and the words they are asked in, not by their name: every run's reward model may be called
    ``rm``. Of a match that was judged several times, a verdict counts before one that is missing.
    """
    judged: dict[_Judge, dict[str, Judgment]] = {}
    damaged = []
    for folder in folders:
        try:
            judgments, judge = _judgments(folder / "judgments.jsonl"), _judge(folder / "judging.json")
        except DataError as error:
            damaged.append(str(error))
            continue
        own = judged.setdefault(judge, {})
        own |= {one.id: one for one in judgments if one.mode == "pairwise" and (one.id not in own or own[one.id].winner is None)}
    often = Counter(judge.name for judge in judged)
    found = []
    for judge, own in judged.items():
        called = judge.name if often[judge.name] == 1 else f"{judge.name} ({sha256_of_text(judge.identity).removeprefix('sha256:')[:8]})"
        said = [(one, one.winner) for one in own.values()]
        names = {answer.fingerprint: answer.model for one, winner in said if winner for answer in one.answers}
        games = [_game(one, winner) for one, winner in said if winner]
        if games:
            left_out = {"unscored": len(said) - len(games)} if len(games) < len(said) else {}
            found.append(_standing(called, games, names, left_out, []))
    return found, damaged


def _game(one: Judgment, winner: Literal["a", "b", "tie"]) -> Game:
    a, b = one.answers
    return Game(a.fingerprint, b.fingerprint, winner, float(a.characters - b.characters), f"{one.language}/{one.prompt}")


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
    """The votes of an exported JSONL file. Of a vote that stands in it several times (in two exports put together, say) the last counts.

    :raises DataError: at a line that is no vote.
    """
    found = {}
    for number, line in enumerate(_lines(file), 1):
        try:
            vote = Vote.model_validate_json(line)
        except ValidationError as error:
            raise DataError(f"{file}:{number} is no vote ({error.errors()[0]['msg']}): export with `leaderboards votes export`.") from None
        found[vote.id] = vote
    return found.values()


def _judgments(file: Path) -> list[Judgment]:
    found = []
    for number, line in enumerate(_lines(file), 1):
        try:
            found.append(Judgment.model_validate_json(line))
        except ValidationError as error:
            raise DataError(f"{file}:{number} is no judgment ({error.errors()[0]['msg']}): judge again, the journal helps.") from None
    return found


def _judge(file: Path) -> _Judge:
    try:
        judge = json.loads("\n".join(_lines(file)))["judge"]
        return _Judge(judge["name"], json.dumps([judge["identity"], judge["wording"]]))
    except (ValueError, LookupError, TypeError):
        raise DataError(f"{file} doesn't say who judged: judge again, the journal helps.") from None


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
