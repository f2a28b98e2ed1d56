"""Ratings out of games between two: Bradley–Terry with ties, bootstrap intervals, and a variant that takes length out.

A game is a vote or a pairwise judgment. P(a beats b) = σ(β_a − β_b), and a tie counts as half a win for either: the likelihood then
has the same sufficient statistics, wins plus half the ties, as Davidson's model of ties (1970). With length control the log-odds gain
γ · tanh(Δ / sd), Δ being a's length minus b's and sd that of all Δ, as in AlpacaEval 2 (Dubois et al., arXiv:2404.04475); what is
reported is the fit at Δ = 0. γ has a weak normal prior, since verdicts that length alone decides would send it to infinity.

A finite fit exists only among players who have beaten each other around (Ford 1957): whoever has only won, or only lost, against
the others has no finite rating, and gets a reason in its place.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from evalkit.statistics import Interval, ratio_interval

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

    Numbers = NDArray[numpy.float64]
    Indices = NDArray[numpy.int64]

SCALE = 400.0 / math.log(10.0)
"""Elo points in one unit of log-odds."""
CENTRE = 1000.0
_PRIOR = 1.0 / 2.5**2  # of γ: normal with standard deviation 2.5 (Gelman et al. 2008)
_LOST = 0.05  # of the resamples may have no finite fit before there is no interval


@dataclass(frozen=True)
class Game:
    """One comparison. Games of the same ``group``, such as a prompt, are resampled together; one without is a group of its own.

    :param length_difference: a's length minus b's, in any unit.
    """

    a: str
    b: str
    winner: Literal["a", "b", "tie"]
    length_difference: float = 0.0
    group: str = ""

    @property
    def points(self) -> float:
        """a's: 1, ½ or 0."""
        return {"a": 1.0, "tie": 0.5, "b": 0.0}[self.winner]


@dataclass(frozen=True)
class Rating:
    """A player's place. ``rating`` is on Elo's scale, 1000 on average over all that have one; ``reason`` says why one has none."""

    player: str
    rating: float | None
    ci95: Interval | None
    wins: int
    ties: int
    losses: int
    reason: str | None = None

    @property
    def games(self) -> int:
        """How many it played."""
        return self.wins + self.ties + self.losses


@dataclass(frozen=True)
class Ratings:
    """A fit. ``rows`` begin with the best; players without a finite rating stand last.

    :param length: γ, the log-odds that length adds at most; ``None`` without length control.
    :param lost: share of the resamples that had no finite fit.
    """

    rows: list[Rating]
    length: float | None = None
    lost: float = 0.0
    _strengths: dict[str, float] = field(default_factory=dict, repr=False)
    _samples: dict[str, Numbers] = field(default_factory=dict, repr=False)

    def win_rate(self, a: str, b: str) -> tuple[float, Interval | None] | None:
        """P(a beats b), ties counted half, with a 95 % bootstrap interval; ``None`` unless both have a finite rating."""
        if a not in self._strengths or b not in self._strengths:
            return None
        value = _sigmoid(self._strengths[a] - self._strengths[b])
        return value, _percentiles([_sigmoid(float(gap)) for gap in self._samples[a] - self._samples[b]]) if self._samples else None


def fit(games: Sequence[Game], length_control: bool = False, resamples: int = 200, seed: int = 0) -> Ratings:
    """Rate all players of *games*.

    :param resamples: bootstrap resamples of the groups; intervals are percentiles over them. 0 for none.
    """
    import numpy

    if not games:
        return Ratings([])
    players = sorted({player for game in games for player in (game.a, game.b)})
    table = _Table.of(games, players, length_control)
    rated = table.rated(table.counts)
    inside = table.among(rated)
    draw = numpy.random.default_rng(seed)
    strengths, gamma = inside.fit(inside.counts) if len(rated) > 1 else (numpy.zeros(len(players)), 0.0)
    samples = []
    for _ in range(resamples if len(rated) > 1 else 0):
        weights = inside.resample(draw)
        if inside.rated(weights) == rated:
            samples.append(inside.fit(weights, strengths, gamma)[0])
    lost = 1.0 - len(samples) / resamples if resamples and len(rated) > 1 else 0.0
    drawn = numpy.array(samples)[:, rated] if samples and lost <= _LOST else None
    records, finite = _records(games), set(rated)
    rows = [_row(players[k], records[players[k]], float(strengths[k]) if k in finite else None) for k in range(len(players))]
    rated_names = [players[k] for k in rated]
    found = Ratings(
        rows,
        gamma if length_control and len(rated) > 1 else None,
        lost,
        {players[k]: float(strengths[k]) for k in rated} if len(rated) > 1 else {},
        {} if drawn is None else dict(zip(rated_names, drawn.T, strict=True)),
    )
    return Ratings(_finished(found, games, rated_names), found.length, found.lost, found._strengths, found._samples)


def win_rate(games: Sequence[Game], player: str) -> tuple[float, Interval | None] | None:
    """A player's points per game over all its opponents, with a 95 % interval over groups; ``None`` without games."""
    points: dict[str, list[float]] = {}
    for number, game in enumerate(games):
        if player in (game.a, game.b):
            points.setdefault(game.group or f"#{number}", []).append(game.points if game.a == player else 1.0 - game.points)
    if not points:
        return None
    sums, counts = [sum(values) for values in points.values()], [float(len(values)) for values in points.values()]
    interval = ratio_interval(sums, counts)
    clipped = (max(0.0, interval[0]), min(1.0, interval[1])) if interval else None
    return sum(sums) / sum(counts), clipped


def win_matrix(games: Sequence[Game]) -> dict[tuple[str, str], tuple[int, int, int]]:
    """(wins, ties, losses) of the first against the second, for each ordered pair that has met."""
    counts: dict[tuple[str, str], list[int]] = {}
    for game in games:
        place = {"a": 0, "tie": 1, "b": 2}[game.winner]
        counts.setdefault((game.a, game.b), [0, 0, 0])[place] += 1
        counts.setdefault((game.b, game.a), [0, 0, 0])[2 - place] += 1
    return {pair: (found[0], found[1], found[2]) for pair, found in counts.items()}


@dataclass(frozen=True)
class _Table:
    """Games as arrays. A cell is what is drawn: a game, or ``counts`` equal games where every single game is a group of its own.

    Cells of the same two players and length stand in one place of ``a``, ``b`` and ``lengths`` [pairs], as ``pair`` [cells] says:
    the likelihood depends on each pair's weight and points alone, which are few numbers where games are many.

    :param points: of the first player, by cell.
    :param groups: each cell's group, or ``None`` where every single game is one.
    """

    players: int
    a: Indices
    b: Indices
    lengths: Numbers
    pair: Indices
    points: Numbers
    counts: Numbers
    groups: Indices | None

    @classmethod
    def of(cls, games: Sequence[Game], players: Sequence[str], length_control: bool) -> _Table:
        import numpy

        index = {player: k for k, player in enumerate(players)}
        differences = numpy.array([game.length_difference for game in games], dtype=float)
        spread = float(differences.std())
        lengths = numpy.tanh(differences / spread) if length_control and spread else numpy.zeros(len(games))
        rows = numpy.array([(index[game.a], index[game.b], game.points) for game in games], dtype=float)
        turned = rows[:, 0] > rows[:, 1]
        rows[turned] = rows[turned][:, [1, 0, 2]] * (1, 1, -1) + (0, 0, 1)
        cells = numpy.column_stack([rows, numpy.where(turned, -lengths, lengths)])
        counts, groups = numpy.ones(len(games)), None
        names = {name: k for k, name in enumerate(dict.fromkeys(game.group or f"#{i}" for i, game in enumerate(games)))}
        if len(names) < len(games):
            groups = numpy.array([names[game.group or f"#{i}"] for i, game in enumerate(games)], dtype=numpy.int64)
        else:
            cells, often = numpy.unique(cells, axis=0, return_counts=True)
            counts = often.astype(float)
        pairs, pair = numpy.unique(cells[:, [0, 1, 3]], axis=0, return_inverse=True)
        a, b = (pairs[:, side].astype(numpy.int64) for side in (0, 1))
        return cls(len(players), a, b, pairs[:, 2], pair.reshape(-1), cells[:, 2], counts, groups)

    def among(self, players: Sequence[int]) -> _Table:
        """Only the games between these players. Against one of infinite strength, a game says nothing about the other."""
        import numpy

        inside = numpy.isin(self.a, players) & numpy.isin(self.b, players)
        kept = inside[self.pair]
        return _Table(
            self.players,
            self.a[inside],
            self.b[inside],
            self.lengths[inside],
            (numpy.cumsum(inside) - 1)[self.pair[kept]],
            self.points[kept],
            self.counts[kept],
            None if self.groups is None else numpy.unique(self.groups[kept], return_inverse=True)[1],
        )

    def resample(self, draw: numpy.random.Generator) -> Numbers:
        """How often each cell occurs when as many groups are drawn, with replacement, as there are."""
        import numpy

        if self.groups is None:
            total = int(self.counts.sum())
            return draw.multinomial(total, self.counts / total).astype(float)
        size = int(self.groups.max()) + 1
        return draw.multinomial(size, numpy.full(size, 1.0 / size)).astype(float)[self.groups] * self.counts

    def folded(self, weights: Numbers) -> tuple[Numbers, Numbers]:
        """(games, points of the first player) by pair, where the cells have these weights."""
        import numpy

        size = len(self.a)
        return numpy.bincount(self.pair, weights, size).astype(float), numpy.bincount(self.pair, weights * self.points, size).astype(float)

    def rated(self, weights: Numbers) -> list[int]:
        """The largest set of players who have beaten (or tied) each other around, by number of games; at most one player alone."""
        import numpy
        from scipy.sparse import csr_matrix
        from scipy.sparse.csgraph import connected_components

        played, points = self.folded(weights)
        wins, losses = points > 0, points < played
        rows, columns = numpy.concatenate([self.a[wins], self.b[losses]]), numpy.concatenate([self.b[wins], self.a[losses]])
        beaten = csr_matrix((numpy.ones(len(rows)), (rows, columns)), shape=(self.players, self.players))
        count, component = connected_components(beaten, directed=True, connection="strong")
        inner = component[self.a] == component[self.b]
        weight = numpy.bincount(component[self.a][inner], weights=played[inner], minlength=count)
        return [int(k) for k in numpy.flatnonzero(component == int(weight.argmax()))] if count else []

    def fit(self, weights: Numbers, start: Numbers | None = None, gamma: float = 0.0) -> tuple[Numbers, float]:
        """The likeliest strengths (mean 0 over the players of these games, 0 for others) and γ, by Newton's method.

        A ridge along the direction that moves all strengths alike, in which the likelihood is flat, makes the equations regular.
        """
        import numpy

        p = self.players
        played, points = self.folded(weights)
        present = numpy.zeros(p, dtype=bool)
        present[self.a] = present[self.b] = True
        theta = numpy.append(numpy.zeros(p) if start is None else start, gamma)
        for _ in range(200):
            odds = theta[self.a] - theta[self.b] + theta[p] * self.lengths
            chance = 1.0 / (1.0 + numpy.exp(-odds))
            residual, curve = points - played * chance, played * chance * (1.0 - chance)
            gradient = numpy.bincount(self.a, residual, p) - numpy.bincount(self.b, residual, p)
            pairs = numpy.bincount(self.a * p + self.b, curve, p * p).reshape(p, p)
            pairs = pairs + pairs.T
            hessian = numpy.zeros((p + 1, p + 1))
            hessian[:p, :p] = numpy.diag(pairs.sum(1)) - pairs + numpy.outer(present, present) / p + numpy.diag((~present).astype(float))
            slope = numpy.bincount(self.a, curve * self.lengths, p) - numpy.bincount(self.b, curve * self.lengths, p)
            hessian[:p, p] = hessian[p, :p] = slope
            hessian[p, p] = float(curve @ self.lengths**2) + _PRIOR
            step = numpy.linalg.solve(hessian, numpy.append(gradient, residual @ self.lengths - _PRIOR * theta[p]))
            theta = theta + step * min(1.0, 2.0 / max(float(numpy.abs(step).max()), 1e-300))
            if float(numpy.abs(step).max()) < 1e-10:
                break
        theta[:p][present] -= theta[:p][present].mean() if present.any() else 0.0
        return theta[:p], float(theta[p])


def _row(player: str, record: Counter[float], strength: float | None) -> Rating:
    """A player's row of its points in each of its games."""
    rating = None if strength is None else CENTRE + SCALE * strength
    return Rating(player, rating, None, record[1.0], record[0.5], record[0.0])


def _records(games: Sequence[Game]) -> dict[str, Counter[float]]:
    """How often each player had how many points."""
    found: dict[str, Counter[float]] = {}
    for game in games:
        found.setdefault(game.a, Counter())[game.points] += 1
        found.setdefault(game.b, Counter())[1.0 - game.points] += 1
    return found


def _finished(found: Ratings, games: Sequence[Game], rated: Sequence[str]) -> list[Rating]:
    """The rows with intervals and reasons, in order."""
    rows, finite = [], set(rated)
    linked = {one for game in games for one, other in ((game.a, game.b), (game.b, game.a)) if other in finite}
    for row in found.rows:
        if len(rated) > 1 and row.player in finite:
            sample = found._samples.get(row.player)
            interval = _percentiles([CENTRE + SCALE * float(value) for value in sample]) if sample is not None else None
            rows.append(Rating(row.player, row.rating, interval, row.wins, row.ties, row.losses))
        else:
            reason = _one_sided(row, linked)
            rows.append(Rating(row.player, None, None, row.wins, row.ties, row.losses, reason))
    order = {"won every game": 0, "lost every game": 3}
    return sorted(rows, key=lambda row: (row.rating is None, -(row.rating or 0.0), order.get(row.reason or "", 1)))


def _one_sided(row: Rating, linked: set[str]) -> str:
    """Why there is no finite rating; *linked* have met somebody else who has one."""
    if row.wins == row.games:
        return "won every game"
    if row.losses == row.games:
        return "lost every game"
    return "only won or only lost against the rest" if row.player in linked else "no games that link it with the rest"


def _sigmoid(odds: float) -> float:
    return 1.0 / (1.0 + math.exp(-odds))


def _percentiles(values: Sequence[float]) -> Interval:
    import numpy

    low, high = numpy.quantile(values, [0.025, 0.975])
    return float(low), float(high)
