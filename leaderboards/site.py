"""The board as one static page: self-contained, light and dark, English and Chinese, sortable."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

from leaderboards.board import LOWER_IS_BETTER, NONE, Board


def page(board: Board, damaged: Sequence[str] = ()) -> str:
    """``index.html`` of *board*; *damaged* are the sentences about results that couldn't be read.

    Every text is escaped by the template engine, so a model's name or a title can't bring markup in.
    """
    from jinja2 import Environment

    template = (resources.files("leaderboards") / "page.html.jinja").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    lower = [column.metric in LOWER_IS_BETTER for column in board.columns]
    heads = list(zip(board.heads("en"), board.heads("zh"), lower, strict=True))
    rows = [
        (
            row,
            [
                cell and {"value": cell.score.value, "best": cell.best, "en": cell.text(column, "en"), "zh": cell.text(column, "zh")}
                for cell, column in zip(cells, board.columns, strict=True)
            ],
        )
        for row, cells in zip(board.rows, board.cells, strict=True)
    ]
    return environment.from_string(template).render(heads=heads, rows=rows, damaged=list(damaged), dash=NONE) + "\n"
