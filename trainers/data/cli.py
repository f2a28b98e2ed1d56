"""``trainers data``: look at a data file, or write it in the canonical form."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from modelkit.errors import UserError, one_sentence

app = typer.Typer(no_args_is_help=True, help="Look at data files, or convert them.")


class KindName(str, Enum):
    """The kinds of rows, as the command line lists them."""

    sft = "sft"
    preference = "preference"
    prompts = "prompts"
    text = "text"
    unpaired = "unpaired"


Source = Annotated[
    str, typer.Argument(metavar="FILE", help="A file, a dataset's folder, or hf:owner/name; :split behind a folder or name picks one.")
]
Columns = Annotated[
    list[str] | None,
    typer.Option("--columns", metavar="OURS=THEIRS", help="A field called otherwise, e.g. prompt=question; can be repeated."),
]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first bad row.")]


@app.command()
def check(
    file: Source,
    model: Annotated[Path | None, typer.Option("--model", "-m", help="A folder with a tokenizer: count tokens, show its template.")] = None,
    kind: Annotated[KindName | None, typer.Option("--as", help="The kind of rows to look for; by default found out.")] = None,
    columns: Columns = None,
    strict: Strict = False,
) -> None:
    """Say what a file is: format, rows, bad rows by line, duplicates, lengths, and what would be learnt of the first row."""
    with one_sentence():
        from trainers.data import check as checks
        from trainers.data.terminal import show

        tokenizer = context = None
        if model is not None:
            from modelkit.checkpoint import read_tokenizer

            tokenizer = read_tokenizer(model)
            context = tokenizer.model_max_length if tokenizer.model_max_length < 10**9 else None
        show(checks.check(file, _mapping(columns), tokenizer, kind.value if kind else None, strict), context)


@app.command()
def convert(
    file: Source,
    out: Annotated[Path, typer.Argument(help="The .jsonl file to write; bad rows go beside it.")],
    to: Annotated[KindName, typer.Option("--to", help="The kind of rows wanted.")],
    columns: Columns = None,
    strict: Strict = False,
) -> None:
    """Write a file's rows in the canonical form (docs/data.md), and the bad ones, with reasons, beside it."""
    with one_sentence():
        from trainers.data.check import write
        from trainers.data.formats import load

        loaded = load(file, to.value, _mapping(columns), strict)
        aside = write(loaded, out)
        typer.echo(f"{len(loaded.rows):,} {to.value} rows from {loaded.format} → {out}")
        if aside:
            typer.echo(f"{len(loaded.bad):,} bad rows → {aside}; the first: {loaded.bad[0]}")


def _mapping(columns: list[str] | None) -> dict[str, str]:
    pairs = [column.partition("=") for column in columns or []]
    for ours, equals, theirs in pairs:
        if not (ours and equals and theirs):
            raise UserError(f"--columns {ours!r}: write it as OURS=THEIRS, for example --columns prompt=question.")
    return {ours: theirs for ours, _, theirs in pairs}
