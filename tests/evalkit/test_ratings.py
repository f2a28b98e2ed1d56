"""Ratings equal a direct maximum-likelihood fit, have intervals, and aren't made up where none exist."""

from __future__ import annotations

import math
import random

import numpy
import pytest
from scipy.optimize import minimize

from evalkit import ratings
from evalkit.ratings import SCALE, Game


def drawn(players: int, count: int, seed: int, length: float = 0.0, ties: float = 0.2) -> list[Game]:
    """Games between players of random strength, in which an answer that is longer by 1 gains about *length* in log-odds."""
    draw = random.Random(seed)
    strength = [draw.gauss(0, 1) for _ in range(players)]
    games = []
    for number in range(count):
        a, b = draw.sample(range(players), 2)
        gap = draw.gauss(0, 1)
        wins = draw.random() < 1 / (1 + math.exp(strength[b] - strength[a] - length * math.tanh(gap)))
        winner = "tie" if draw.random() < ties else "a" if wins else "b"
        games.append(Game(f"p{a}", f"p{b}", winner, gap, f"prompt {number // 3}"))  # type: ignore[arg-type]
    return games


def direct(games: list[Game], lengths: bool) -> tuple[dict[str, float], float]:
    """The likeliest ratings by a general optimiser."""
    players = sorted({player for game in games for player in (game.a, game.b)})
    index = {player: k for k, player in enumerate(players)}
    spread = float(numpy.std([game.length_difference for game in games]))

    def loss(theta: numpy.ndarray) -> float:
        total = theta[: len(players)].sum() ** 2 + (theta[-1] ** 2 / 2 / 2.5**2 if lengths else theta[-1] ** 2)
        for game in games:
            odds = theta[index[game.a]] - theta[index[game.b]]
            odds += theta[-1] * math.tanh(game.length_difference / spread) if lengths else 0.0
            total += game.points * numpy.logaddexp(0, -odds) + (1 - game.points) * numpy.logaddexp(0, odds)
        return float(total)

    best = minimize(loss, numpy.zeros(len(players) + 1), method="BFGS", options={"gtol": 1e-7}).x
    return {player: 1000 + SCALE * (best[index[player]] - best[:-1].mean()) for player in players}, float(best[-1])


@pytest.mark.parametrize(("seed", "lengths"), [(0, False), (1, False), (2, True), (3, True)])
def test_ratings_equal_a_direct_maximum_likelihood_fit(seed: int, lengths: bool) -> None:
    games = drawn(4 + seed, 150, seed, length=1.0)
    found = ratings.fit(games, length_control=lengths, resamples=0)
    expected, gamma = direct(games, lengths)
    assert {row.player: row.rating for row in found.rows} == pytest.approx(expected, abs=0.05)
    assert found.length == (pytest.approx(gamma, abs=1e-3) if lengths else None)


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    held = 0
    for seed in range(40):
        draw = random.Random(seed)
        games = [Game("a", "b", "a" if draw.random() < 0.6 else "b", group=str(number)) for number in range(150)]
        value, interval = ratings.fit(games, resamples=100, seed=seed).win_rate("a", "b") or (0.0, None)
        assert interval is not None
        assert interval[0] <= value <= interval[1]
        held += interval[0] <= 0.6 <= interval[1]
    assert 34 <= held <= 40


def test_games_of_one_prompt_are_resampled_together() -> None:
    draw = random.Random(0)
    winners = [draw.choice("ab") for _ in range(30)]
    apart = [Game("a", "b", winner) for winner in winners for _ in range(10)]  # type: ignore[arg-type]
    together = [Game("a", "b", winner, group=str(k)) for k, winner in enumerate(winners) for _ in range(10)]  # type: ignore[arg-type]

    def width(games: list[Game]) -> float:
        low, high = ratings.fit(games).rows[0].ci95 or (0.0, 0.0)
        return high - low

    assert width(together) > 2 * width(apart)


def test_length_control_takes_length_out() -> None:
    draw = random.Random(5)
    games = []
    for number in range(600):
        gap = 1.0 + draw.gauss(0, 1)  # a writes more, and only that makes it win
        games.append(Game("a", "b", "a" if draw.random() < 1 / (1 + math.exp(-2 * math.tanh(gap))) else "b", gap, str(number)))
    plain, controlled = ratings.fit(games).win_rate("a", "b"), ratings.fit(games, length_control=True).win_rate("a", "b")
    assert plain is not None
    assert controlled is not None
    assert plain[0] > 0.65
    assert abs(controlled[0] - 0.5) < 0.12


@pytest.mark.parametrize(
    ("games", "reasons"),
    [
        ([Game("a", "b", "a")] * 20, {"a": "won every game", "b": "lost every game"}),
        ([Game("a", "b", "a"), Game("b", "a", "a"), Game("c", "a", "a")], {"a": None, "b": None, "c": "won every game"}),
        ([Game("a", "b", "tie")] * 3, {"a": None, "b": None}),
        (
            [Game("a", "b", "a"), Game("a", "b", "b"), Game("a", "b", "b"), Game("c", "d", "a"), Game("c", "d", "b")],
            {"a": None, "b": None, "c": "no games that link it with the rest", "d": "no games that link it with the rest"},
        ),
    ],
)
def test_one_sided_records_have_no_finite_rating_and_say_so(games: list[Game], reasons: dict[str, str | None]) -> None:
    rows = ratings.fit(games, resamples=20).rows
    assert {row.player: row.reason for row in rows} == reasons
    assert all((row.rating is None) == (row.reason is not None) for row in rows)


def test_a_player_who_only_wins_changes_nobody_elses_rating() -> None:
    games = drawn(4, 120, 7)
    more = [*games, *(Game("champion", f"p{k}", "a") for k in range(4))]
    without, beside = ({row.player: row.rating for row in ratings.fit(some, resamples=0).rows} for some in (games, more))
    assert beside.pop("champion") is None
    assert beside == pytest.approx(without)


def test_no_games_are_no_ratings() -> None:
    assert ratings.fit([]).rows == []
    assert ratings.win_rate([], "a") is None


def test_a_win_rate_counts_ties_half_and_the_matrix_is_its_own_mirror() -> None:
    games = [Game("a", "b", "a"), Game("b", "a", "tie"), Game("a", "c", "b"), Game("a", "b", "a")]
    value, interval = ratings.win_rate(games, "a") or (0.0, None)
    assert value == 2.5 / 4
    assert interval is not None
    matrix = ratings.win_matrix(games)
    assert matrix["a", "b"] == (2, 1, 0)
    assert matrix["b", "a"] == (0, 1, 2)
