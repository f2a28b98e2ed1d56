"""``leaderboards votes``: look at what people voted, accept it, export it, compare it with reward models."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelkit.errors import UserError, one_sentence

if TYPE_CHECKING:
    from leaderboards.votes.store import Store

app = typer.Typer(no_args_is_help=True, help="Look at people's votes, accept them, export them, compare them with reward models.")

_WIDTH = 160  # of a table that goes to a file or a pipe


class Status(str, Enum):
    """What became of a vote."""

    new = "new"
    accepted = "accepted"
    rejected = "rejected"


class Kind(str, Enum):
    """What an exported file holds."""

    preferences = "preferences"
    votes = "votes"
    conversations = "conversations"


class PartName(str, Enum):
    """The parts of the votes; one prompt in five is held out."""

    train = "train"
    held_out = "held-out"
    all = "all"


Where = Annotated[
    str | None,
    typer.Option("--store", help="The store's path or URL. [default: $PLAYGROUND_STORE or runs/votes.sqlite]", show_default=False),
]
Ids = Annotated[list[str], typer.Argument(metavar="ID...", help="Ids, as `list` shows them.")]


@app.command("list")
def show(
    store: Where = None,
    status: Annotated[Status | None, typer.Option(help="Only votes with this status.")] = None,
    last: Annotated[int, typer.Option(min=1, help="How many of the youngest are shown.")] = 20,
) -> None:
    """Print the youngest votes and how many there are of each status."""
    with one_sentence():
        from rich.console import Console

        from leaderboards.votes.terminal import table

        opened = _open(store)
        console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)
        console.print(table(opened.youngest(last, status.value if status else None)))
        counts = opened.counts()
        console.print(" · ".join(f"{name.value}: {counts.get(name.value, 0):,}" for name in Status))


@app.command()
def accept(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID...]", help="These, whatever the rules say.", show_default=False)] = None,
    store: Where = None,
    new: Annotated[bool, typer.Option("--new", help="All new votes that keep to the rules.")] = False,
    per_session: Annotated[int, typer.Option(min=1, help="Rule: most votes of one session.")] = 50,
    per_prompt: Annotated[int, typer.Option(min=1, help="Rule: most votes about one prompt.")] = 20,
    haste: Annotated[float, typer.Option(min=0, help="Rule: the least share of the time that reading both replies aloud takes.")] = 0.2,
) -> None:
    """Accept votes: the ids given, or with --new all that keep to the rules. Only accepted votes are trained on."""
    with one_sentence():
        from leaderboards.votes.acceptance import Rules

        if bool(ids) == new:
            raise UserError("say which votes: give their ids, or --new for all new ones that keep to the rules.")
        opened = _open(store)
        if ids:
            typer.echo(f"accepted: {opened.accept(ids):,}")
            return
        found = opened.accept_new(Rules(per_session, per_prompt, haste))
        typer.echo(f"accepted: {len(found.accepted):,}")
        for why, held in found.held_back.items():
            typer.echo(f"held back, {why}: {len(held):,} (the first: {held[0]})")


@app.command()
def reject(ids: Ids, store: Where = None) -> None:
    """Reject votes: they stay in the store and count for nothing."""
    with one_sentence():
        typer.echo(f"rejected: {_open(store).reject(ids):,}")


@app.command()
def delete(ids: Ids, store: Where = None) -> None:
    """Delete votes or conversations for good."""
    with one_sentence():
        gone = _open(store).delete(ids)
        typer.echo(f"deleted: {gone:,}; not there: {len(set(ids)) - gone:,}")


@app.command()
def export(
    out: Annotated[Path, typer.Option(help="The .jsonl file to write.")],
    store: Where = None,
    kind: Annotated[Kind, typer.Option("--as", help="Preference rows of accepted votes, or records as they are.")] = Kind.preferences,
    part: Annotated[PartName, typer.Option(help="Of preferences: those to train on, those held out to measure agreement, or all.")] = (
        PartName.train
    ),
) -> None:
    """Write a JSONL file: preference rows to train on, or all votes, or all conversations."""
    with one_sentence():
        from leaderboards.votes.export import part_of, write_preferences, write_records

        opened = _open(store)
        if kind is Kind.preferences:
            counted = write_preferences(part_of(opened.votes("accepted"), part.value), out)
            left_out = "".join(f"; no row for {count:,} votes: {why}" for why, count in counted.items() if why != "rows")
            typer.echo(f"{counted['rows']:,} preference rows ({part.value}) → {out}{left_out}")
        else:
            written = write_records(opened.votes() if kind is Kind.votes else opened.conversations(), out)
            typer.echo(f"{written:,} {kind.value} → {out}")


@app.command()
def agreement(
    model: Annotated[list[Path], typer.Option("--model", "-m", help="A reward model's checkpoint; several are compared with the first.")],
    store: Where = None,
    part: Annotated[PartName, typer.Option(help="Which accepted votes are looked at; training takes those of `train`.")] = (
        PartName.held_out
    ),
    out: Annotated[Path | None, typer.Option(help="A .jsonl file for the rewards of every vote.")] = None,
) -> None:
    """Say how often reward models agree with people's accepted votes."""
    with one_sentence():
        from rich.console import Console

        from leaderboards.votes.agreement import agreement as measure
        from leaderboards.votes.export import part_of
        from leaderboards.votes.terminal import agreements
        from modelkit import atomic
        from modelkit.device import set_threads

        set_threads()
        votes = list(part_of(_open(store).votes("accepted"), part.value))
        found = {str(path): measure(votes, path) for path in dict.fromkeys(model)}
        Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH).print(agreements(found))
        if out:
            rows = [{"model": name, **asdict(verdict)} for name, (_, verdicts) in found.items() for verdict in verdicts]
            atomic.write_text(out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _open(named: str | None) -> Store:
    from leaderboards.votes.store import Store, address

    return Store(address(named, Path("runs")), create=False)
