"""``leaderboards build``: results and votes → a table in the terminal, figures and a static site, which ``publish`` sends to the Hub."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from leaderboards.votes.cli import app as votes_app
from modelkit.device import prepare_process
from modelkit.errors import one_sentence

if TYPE_CHECKING:
    from rich.table import Table

    from leaderboards.board import Board
    from modelkit.records import Vote

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(votes_app, name="votes")

_FILE_WIDTH = 240  # of a table that goes to a file or a pipe: nothing needs to be squeezed there
_MOST_ROWS = 100  # of a table in the terminal; the site has all of them


@app.callback()
def commands() -> None:
    """Rank the checkpoints of runs by their evaluation results; look after people's votes."""


Votes = Annotated[
    str | None,
    typer.Option(help="People's votes: the store's path or URL, or an exported .jsonl file.", show_default=False),
]


@app.command()
def build(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUNS...",
            help="Runs, folders of runs or results, or files of results: evalkit's, lm-eval's, lighteval's, OpenCompass'.",
        ),
    ],
    votes: Votes = None,
    out: Annotated[Path, typer.Option(help="Folder for the site and the figures.")] = Path("site"),
) -> None:
    """Print the table of models by tasks, and write it with ratings and plots as a static site, CSV, JSON and Parquet."""
    with one_sentence():
        from rich.console import Console

        from leaderboards.build import JSON, Leaderboard
        from leaderboards.collect import collect
        from modelkit.errors import UserError

        if out.exists() and not out.is_dir():
            raise UserError(f"{out} is a file: name a folder for the site with --out.")
        collection = collect(runs)
        console = Console(highlight=False, width=None if sys.stdout.isatty() else _FILE_WIDTH)
        for sentence in collection.damaged:
            console.print(f"left out: {sentence}", style="yellow", markup=False)
        if not collection.results:
            raise UserError(f"no leaderboard was written: none of the {len(collection.damaged)} files found could be read.")
        found = Leaderboard.of(collection, _votes(votes), out / JSON)
        if len(found.board.rows) <= _MOST_ROWS:
            console.print(_terminal_table(found.board))
        for note in found.notes + found.damaged[len(collection.damaged) :]:
            console.print(f"note: {note}", style="yellow", markup=False)
        if collection.damaged:
            console.print(f"read: {len(collection.results)}, left out: {len(collection.damaged)}")
        written = found.write(out)
        files = ", ".join(file.name for file in written)
        console.print(f"{len(found.board.rows):,} models, {len(collection.results):,} results → {out}/: {files}", markup=False)


@app.command()
def publish(
    site: Annotated[Path, typer.Argument(help="The folder that `build` wrote.")] = Path("site"),
    to: Annotated[str, typer.Option(help="Where to: hf:ORG/NAME makes a dataset and a static Space of that name.")] = ...,  # type: ignore[assignment]
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would go where.")] = False,
    private: Annotated[bool, typer.Option("--private", help="Only into repositories that are private; new ones are made so.")] = False,
) -> None:
    """Publish a built site on the Hugging Face Hub: the figures as a dataset, the page as a static Space."""
    with one_sentence():
        from leaderboards.publish import plan, upload

        uploads = plan(site, to)
        for one in uploads:
            typer.echo(f"{one.repository} ({one.kind})")
            for name, size in one.sizes:
                typer.echo(f"  {size:>12,} bytes  {name}")
        if dry_run:
            typer.echo("nothing was sent: --dry-run.")
            return
        for url in upload(uploads, private):
            typer.echo(f"published: {url}")


@app.command()
def card(
    runs: Annotated[list[Path], typer.Argument(metavar="RUNS...", help="What `build` takes.")],
    model: Annotated[str, typer.Option("--model", "-m", help="The model: its path, its name in the table, or its fingerprint.")],
    name: Annotated[str | None, typer.Option(help="What the model is called on the Hub.", show_default=False)] = None,
) -> None:
    """Print the results of one model as the metadata of its card on the Hugging Face Hub (model-index)."""
    with one_sentence():
        from leaderboards.board import make_board
        from leaderboards.collect import collect
        from leaderboards.model_card import metadata

        typer.echo(metadata(make_board(collect(runs)), model, name), nl=False)


def _votes(named: str | None) -> Iterable[Vote]:
    """The votes of a store or an exported file; without either none."""
    from leaderboards.standings import read_votes
    from leaderboards.votes.store import Store, address

    if named is None:
        return []
    if named.endswith(".jsonl"):
        return read_votes(Path(named))
    return Store(address(named, Path("runs")), create=False).votes()


def _terminal_table(board: Board) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from leaderboards.board import NONE

    table = Table(
        caption="value, [95 % interval]; ★ best of the column, ≈ not significantly worse, ⚠ doubtful: the site says why",
        caption_justify="left",
        header_style="",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("model", min_width=12)
    for head in board.heads():
        table.add_column(Text("\n".join(head)), justify="right", overflow="fold")
    for row, cells in zip(board.rows, board.cells, strict=True):
        texts = [
            Text("\n".join(cell.text(column)) + " ⚠" * bool(cell.doubts), style="bold" if cell.best else "") if cell else Text(NONE)
            for cell, column in zip(cells, board.columns, strict=True)
        ]
        table.add_row(Text(row.name()), *texts)
    return table


def main() -> None:
    """Entry point of ``leaderboards`` and ``python -m leaderboards``."""
    prepare_process()
    app()
