"""A table as it is shown: heads and cells in both languages. The site draws all its tables from these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from leaderboards.wording import Both

_EMPTY = Both("Nothing yet.", "暂无内容。")


@dataclass(frozen=True)
class Field:
    """One cell. ``lines`` are shown below each other, the first one large; ``value`` is what it is sorted by; ``doubt`` why it has ⚠."""

    lines: Sequence[Both]
    value: float | None = None
    mark: Literal["", "best", "near"] = ""
    doubt: Sequence[Both] = ()


@dataclass(frozen=True)
class Head:
    """A column's head. ``lower``: less is better; ``group`` is what columns can be chosen by, a benchmark, say."""

    lines: Sequence[Both]
    lower: bool = False
    group: str = ""


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
    """A table with a title and a note; ``heads[0]`` stands over the rows' names. Without rows, ``empty`` is shown in its place."""

    id: str
    title: Both
    note: Both
    heads: Sequence[Head]
    rows: Sequence[Line] = field(default_factory=list)
    empty: Both = _EMPTY

    @property
    def groups(self) -> list[str]:
        """What columns can be chosen by, each once."""
        return [group for group in dict.fromkeys(head.group for head in self.heads) if group]
