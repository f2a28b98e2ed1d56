"""``leaderboards build``: results → a table in the terminal, a CSV file and a static page. ``leaderboards votes``: what people say."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from leaderboards.votes.cli import app as votes_app
from modelkit.device import prepare_process
from modelkit.errors import one_sentence

if TYPE_CHECKING:
    from rich.table import Table

    from leaderboards.board import Board

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(votes_app, name="votes")

_FILE_WIDTH = 240  # of a table that goes to a file or a pipe: nothing needs to be squeezed there


@app.callback()
def commands() -> None:
    """Rank the checkpoints of runs by their evaluation results; look after people's votes."""


@app.command()
def build(
    runs: Annotated[list[Path], typer.Argument(metavar="RUNS...", help="Run directories, folders of runs, or folders with results.")],
    out: Annotated[Path, typer.Option(help="Folder for leaderboard.csv and index.html.")] = Path("site"),
) -> None:
    """Print the table of models by tasks, and write it as CSV and as a static page."""
    with one_sentence():
        from rich.console import Console

        from leaderboards.board import make_board
        from leaderboards.collect import collect
        from leaderboards.site import page
        from leaderboards.tables import figures, to_csv
        from modelkit import atomic
        from modelkit.errors import UserError

        if out.exists() and not out.is_dir():
            raise UserError(f"{out} is a file: name a folder for the site with --out.")
        collection = collect(runs)
        console = Console(highlight=False, width=None if sys.stdout.isatty() else _FILE_WIDTH)
        for sentence in collection.damaged:
            console.print(f"left out: {sentence}", style="yellow", markup=False)
        if not collection.results:
            raise UserError(f"no leaderboard was written: none of the {len(collection.damaged)} files found could be read.")
        board = make_board(collection)
        console.print(_terminal_table(board))
        if collection.damaged:
            console.print(f"read: {len(collection.results)}, left out: {len(collection.damaged)}")
        atomic.write_text(out / "leaderboard.csv", to_csv(figures(board)))
        atomic.write_text(out / "index.html", page(board, collection.damaged))
        console.print(f"wrote {out / 'leaderboard.csv'} and {out / 'index.html'}", markup=False)


def _terminal_table(board: Board) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from leaderboards.board import NONE

    table = Table(
        caption="value, [95 % interval]; ★ best of the column", caption_justify="left", header_style="", box=box.SIMPLE_HEAD, pad_edge=False
    )
    table.add_column("model", min_width=12)
    for head in board.heads():
        table.add_column(Text("\n".join(head)), justify="right", overflow="fold")
    for row, cells in zip(board.rows, board.cells, strict=True):
        texts = [
            Text("\n".join(cell.text(column)), style="bold" if cell.best else "") if cell else Text(NONE)
            for cell, column in zip(cells, board.columns, strict=True)
        ]
        table.add_row(Text(row.name()), *texts)
    return table


def main() -> None:
    """Entry point of ``leaderboards`` and ``python -m leaderboards``."""
    prepare_process()
    app()
