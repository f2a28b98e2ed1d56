"""One number for a model: its mean share above chance, over benchmarks that every ranked model was asked."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from evalkit.statistics import chance_normalised
from leaderboards.board import Board, Column


@dataclass(frozen=True)
class Place:
    """A model's place among those that have a score in every ranked column; ``None`` for others.

    :param value: its mean above chance over the ranked columns that it has, 0 being guessing and 1 all right.
    :param covered: how many of the ranked columns it has.
    """

    rank: int | None
    value: float | None
    covered: int


@dataclass(frozen=True)
class Ranking:
    """``columns`` are those that count; ``places`` stand in the order of the board's rows."""

    columns: list[Column]
    places: list[Place]


def rank(board: Board) -> Ranking:
    """Rank the models of *board*.

    What counts are columns of right answers whose chance is known: of each task, data and shots the method on which most
    models have a score, and of those the ones that at least half of the models with any of them have. Only models with all of
    these get a rank, since a mean over other questions is no mean to compare; equal values share a rank.
    """
    often = Counter(
        column
        for cells in board.cells
        for column, cell in zip(board.columns, cells, strict=True)
        if cell and cell.score.value is not None and chance_of(column) is not None
    )
    methods: dict[tuple[str, str, int], Column] = {}
    for column in board.columns:
        key = (column.task, column.setting, column.shots)
        if often[column] > (often[methods[key]] if key in methods else 0):
            methods[key] = column
    candidates = list(methods.values())
    values = [_values(board, row, candidates) for row in range(len(board.rows))]
    having = sum(bool(found) for found in values)
    columns = [column for column in candidates if 2 * sum(column in found for found in values) >= having]
    means = [_mean([found[column] for column in columns if column in found]) for found in values]
    covered = [sum(column in found for column in columns) for found in values]
    full = sorted((mean for mean, count in zip(means, covered, strict=True) if mean is not None and count == len(columns)), reverse=True)
    places = [
        Place(full.index(mean) + 1 if mean is not None and count == len(columns) else None, mean, count)
        for mean, count in zip(means, covered, strict=True)
    ]
    return Ranking(columns, places)


def chance_of(column: Column) -> float | None:
    """What guessing reaches in a column of right answers, 0 where answers are written freely; ``None`` for columns that don't rank."""
    if not column.share or column.kind not in ("choice", "answer", "pairs"):
        return None
    return 0.0 if column.kind == "answer" else column.chance


def _values(board: Board, row: int, columns: list[Column]) -> dict[Column, float]:
    found = {}
    for column, cell in zip(board.columns, board.cells[row], strict=True):
        chance = chance_of(column)
        if column in columns and cell and cell.score.value is not None and chance is not None:
            found[column] = chance_normalised(cell.score.value, chance)
    return found


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
