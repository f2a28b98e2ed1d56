"""A table as it is shown: heads and cells in both languages. The site, the terminal and the playground's tab draw the same grids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from leaderboards.wording import Both

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Field:
    """One cell. ``lines`` are shown below each other, the first one large; ``value`` is what it is sorted by; ``doubt`` why it has ⚠."""

    lines: Sequence[Both]
    value: float | None = None
    mark: Literal["", "best", "near"] = ""
    doubt: Sequence[Both] = ()


@dataclass(frozen=True)
class Head:
    """A column's head. ``lower``: less is better."""

    lines: Sequence[Both]
    lower: bool = False


@dataclass(frozen=True)
class Line:
    """A row. ``quoted``: its figures are quoted from elsewhere; ``group`` is what one can filter by, a run's name, say."""

    name: Both
    fields: Sequence[Field | None]
    title: str = ""
    quoted: bool = False
    group: str = ""


@dataclass(frozen=True)
class Grid:
    """A table with a title and a note; ``heads[0]`` stands over the rows' names."""

    id: str
    title: Both
    note: Both
    heads: Sequence[Head]
    rows: Sequence[Line] = field(default_factory=list)


def to_frame(grid: Grid, language: str) -> pd.DataFrame:
    """*grid* as texts in one language."""
    import pandas as pd

    heads = [" · ".join(line.of(language) for line in head.lines) for head in grid.heads]
    return pd.DataFrame([[row.name.of(language), *(_text(one, language) for one in row.fields)] for row in grid.rows], columns=heads)


def _text(cell: Field | None, language: str) -> str:
    if cell is None:
        return "–"
    doubts = "".join(f" ⚠ {one.of(language)}" for one in cell.doubt)
    return " ".join(line.of(language) for line in cell.lines) + doubts
