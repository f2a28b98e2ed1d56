"""A comparison of two results: its table, the questions that flipped, and these as a file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from evalkit.compare import Comparison, Flip, Paired
from evalkit.show import short
from modelkit import atomic
from modelkit.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

SURE = 0.05


def table(compared: Sequence[Comparison]) -> Table:
    """One row for each task and method, and below it one for each subject where there are several; what is sure is coloured."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    made = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    made.add_column("task, subject", overflow="fold")
    for head in ("method", "n", "A", "B", "B − A", "95 %", "only A", "only B", "p"):
        made.add_column(head, justify="left" if head == "method" else "right", no_wrap=True)
    for one in compared:
        made.add_row(one.task, f"{one.method}, {one.average}", *_cells(one.whole), style="bold" if one.whole.p < SURE else "")
        if len(one.subjects) > 1:
            for subject, paired in one.subjects.items():
                made.add_row(Text(f"  {subject}"), "", *_cells(paired))
    return made


def flips_table(flips: Sequence[Flip]) -> Table:
    """Flipped questions: what was right, and what each result answered."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    made = Table("task", "method", "question", "gold", "A", "B", "Δ p(gold)", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for flip in flips:
        gain = "" if flip.gain is None else f"{flip.gain:+.3f}"
        answers = [Text(short(answer), "green" if flip.right == side else "red") for side, answer in (("a", flip.a), ("b", flip.b))]
        made.add_row(flip.task, flip.method, Text(flip.id), Text(short(flip.gold)), *answers, gain)
    return made


def remarks(compared: Sequence[Comparison]) -> list[str]:
    """How to read the table, and what was left out of it."""
    lines = [
        f"{one.task} · {one.method}: {', '.join(f'{count:,} questions {reason}' for reason, count in one.dropped.items())}, not compared"
        for one in compared
        if one.dropped
    ]
    explained = "B − A in percentage points, with its 95 % bootstrap interval; p: exact McNemar test, over all subjects of a task by Holm"
    return [*lines, explained]


def write_flips(compared: Sequence[Comparison], file: Path) -> int:
    """Write all flipped questions as JSONL, or as CSV where *file* ends so; returns how many.

    :raises UserError: for another ending.
    """
    rows = [asdict(flip) for one in compared for flip in one.flips]
    if file.suffix == ".jsonl":
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    elif file.suffix == ".csv":
        stream = io.StringIO(newline="")
        writer = csv.DictWriter(stream, list(Flip.__dataclass_fields__), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        text = stream.getvalue()
    else:
        raise UserError(f"{file} should end in .jsonl or .csv: those are the ways flipped questions can be written.")
    atomic.write_text(file, text)
    return len(rows)


def _cells(paired: Paired) -> list[Text]:
    from rich.text import Text

    colour = "" if paired.p >= SURE else "green" if paired.difference > 0 else "red"
    low, high = paired.ci95
    p = "<0.0001" if paired.p < 0.0001 else f"{paired.p:.4f}"
    return [
        Text(f"{paired.n:,}"),
        Text(f"{paired.a:.1%}"),
        Text(f"{paired.b:.1%}"),
        Text(f"{100 * paired.difference:+.1f}", colour),
        Text(f"{100 * low:+.1f} … {100 * high:+.1f}"),
        Text(f"{paired.only_a:,}"),
        Text(f"{paired.only_b:,}"),
        Text(p, colour),
    ]
