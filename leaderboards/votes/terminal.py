"""How votes and agreements are shown in a terminal. What visitors wrote can't move the cursor there: control characters are replaced."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from evalkit.statistics import mcnemar
from leaderboards.votes.agreement import FEWEST_VOTES, Verdict
from modelkit.records import MethodScore, Side, Vote

_LONGEST = 48
_AGREED = {True: "yes", False: "no", None: "–"}


def table(votes: Iterable[Vote]) -> RenderableType:
    """Votes, one a row."""
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="")
    for head in ("id", "time (UTC)", "session", "status", "vote", "A", "B", "seconds", "reward model agreed", "prompt"):
        shown.add_column(head, justify="right" if head == "seconds" else "left", no_wrap=head == "id")
    for vote in votes:
        moment = datetime.fromtimestamp(vote.time, timezone.utc).strftime("%Y-%m-%d %H:%M")
        seconds = "–" if vote.seconds is None else f"{vote.seconds:.1f}"
        facts = (vote.id, moment, vote.session[:8], vote.status, vote.winner.replace("_", " "), _side(vote.a), _side(vote.b), seconds)
        shown.add_row(*map(Text, (*facts, _AGREED[vote.agreed], printable(vote.prompt[-1]["content"]))))
    return shown


def agreements(found: Mapping[str, tuple[MethodScore, Sequence[Verdict]]]) -> RenderableType:
    """Agreement by reward model, each compared with the first on the votes that both could score (McNemar's exact test)."""
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="")
    for head in ("reward model", "agrees with people", "95 % interval", "votes", "unscored", "longer reply", "p against the first"):
        shown.add_column(head, justify="left" if head == "reward model" else "right")
    first = next(iter(found.values()))[1]
    for place, (name, (score, verdicts)) in enumerate(found.items()):
        share = "–" if score.value is None else f"{score.value:.1%}"
        interval = f"[{score.ci95[0]:.1%}, {score.ci95[1]:.1%}]" if score.ci95 else "–"
        longer = f"{score.length_baseline:.1%}"  # type: ignore[attr-defined]
        against = f"{_against(first, verdicts):.3g}" if place else ""
        shown.add_row(*map(Text, (printable(name), share, interval, f"{score.n:,}", f"{score.unscored:,}", longer, against)))
    few = next(iter(found.values()))[0].n
    return Group(shown, Text(f"too few votes to tell: {few} of at least {FEWEST_VOTES}", style="yellow")) if few < FEWEST_VOTES else shown


def printable(text: str) -> str:
    """The beginning of a text on one line, every control and format character replaced by a blank."""
    line = "".join(" " if unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp") else character for character in text)
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


def _side(side: Side) -> str:
    return printable(side.checkpoint) + ("" if side.reward is None else f" ({side.reward:+.2f})")


def _against(first: Sequence[Verdict], other: Sequence[Verdict]) -> float:
    both = [(a.agreed, b.agreed) for a, b in zip(first, other, strict=True) if a.agreed is not None and b.agreed is not None]
    return mcnemar(both.count((True, False)), both.count((False, True)))
