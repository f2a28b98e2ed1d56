"""Results and votes → everything that is shown: the board, its tables, ratings and plots, and the files of a site."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leaderboards import changes, rated, views
from leaderboards.board import Board, make_board
from leaderboards.collect import Collection
from leaderboards.grid import Grid
from leaderboards.plots import Plot, plots
from leaderboards.site import PLOTLY, Section, Site, page, plotly_script
from leaderboards.standings import Standing, of_judgings, of_votes
from leaderboards.tables import figures, to_csv
from leaderboards.wording import Both
from modelkit import atomic
from modelkit.errors import UserError
from modelkit.records import Vote

if TYPE_CHECKING:
    import pandas as pd

JSON = "leaderboard.json"


@dataclass(frozen=True)
class Leaderboard:
    """All that was found, counted. ``damaged`` and ``notes`` name what counts for nothing, and why."""

    board: Board
    standings: list[Standing]
    damaged: list[str]
    notes: list[str]
    _last: list[dict[str, Any]] | None = field(default=None, repr=False)

    @classmethod
    def of(cls, collection: Collection, votes: Iterable[Vote] = (), last: Path | None = None) -> Leaderboard:
        """Count *collection* and *votes*; *last* is the file of figures that the last build left."""
        judged, damaged = of_judgings(collection.judgings)
        people = of_votes(votes)
        notes = [*collection.notes]
        if twins := sorted(collection.twins):
            notes.append(f"ids that different results share ({len(twins):,}): {', '.join(twins[:5])}{' …' if len(twins) > 5 else ''}.")
        before = None
        try:
            before = changes.read(last) if last else None
        except UserError as error:
            notes.append(str(error))
        return cls(make_board(collection), ([people] if people else []) + judged, [*collection.damaged, *damaged], notes, before)

    @cached_property
    def figures(self) -> pd.DataFrame:
        """Every figure, one row for each model, task and method."""
        return figures(self.board)

    @cached_property
    def records(self) -> list[dict[str, Any]]:
        """Every figure, plain enough for JSON."""
        return list(json.loads(self.figures.to_json(orient="records")))

    @property
    def tables(self) -> list[Grid]:
        """The tables of ratings."""
        found: list[Grid] = []
        for place, standing in enumerate(self.standings):
            found += [rated.ratings(standing, self.board, place), rated.matrix(standing, self.board, place)]
        agreement = rated.agreement(self.standings, self.board)
        return found + ([agreement] if agreement else [])

    @property
    def plots(self) -> list[Plot]:
        """Every plot there are figures for."""
        return plots(self.board, self.standings)

    @property
    def sections(self) -> list[Section]:
        """The parts of the page."""
        changed = changes.changes(self._last, self.records, self.board) if self._last is not None else None
        return [
            Section("scores", Both("Scores", "成绩"), [views.overview(self.board)]),
            Section("categories", Both("Categories", "类别"), views.categories(self.board), choose=True),
            Section("ratings", Both("Ratings", "评分"), self.tables),
            Section("plots", Both("Plots", "图表"), plots=self.plots),
            Section("stages", Both("Stages", "阶段"), views.stages(self.board), choose=True),
            Section("published", Both("Published", "已发表"), [views.quoted_figures()]),
            Section("changes", Both("Changes", "变化"), [changed] if changed else []),
        ]

    def page(self, version: str = "") -> str:
        """The site's page; with a *version* the one that stands in a frame of another page."""
        return page(Site(self.sections, self.damaged, self.notes, version))

    def write(self, out: Path) -> list[Path]:
        """Write the site into *out*: the page, plotly's script, and the figures as CSV, JSON and Parquet. Each file appears whole."""
        content = {
            "format": 1,
            "figures": self.records,
            "ratings": ratings_records(self.standings),
            "damaged": self.damaged,
            "notes": self.notes,
        }
        texts = {
            "index.html": self.page(),
            PLOTLY: plotly_script(),
            "leaderboard.csv": to_csv(self.figures),
            JSON: json.dumps(content, ensure_ascii=False, indent=1) + "\n",
        }
        for name, text in texts.items():
            atomic.write_text(out / name, text)
        parquet = out / "leaderboard.parquet"
        beside = parquet.with_name(f".{parquet.name}.tmp")
        self.figures.to_parquet(beside, index=False)
        beside.replace(parquet)
        return [*(out / name for name in texts), parquet]


def ratings_records(standings: Sequence[Standing]) -> list[dict[str, Any]]:
    """Every rating, plain enough for JSON."""
    return [
        {
            "source": standing.judge or "people",
            "player": row.player,
            "name": standing.names[row.player],
            "rating": row.rating,
            "ci95": row.ci95,
            "at_equal_length": standing.equal_length.get(row.player),
            "wins": row.wins,
            "ties": row.ties,
            "losses": row.losses,
            "reason": row.reason,
        }
        for standing in standings
        for row in standing.ratings.rows
    ]
