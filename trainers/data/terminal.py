"""How :mod:`trainers.data.check` is shown in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from trainers.data.check import CONTEXTS, Passage, Report, histogram

_BAR = 40
_SHOWN = 10
_LONGEST = 1500


def show(report: Report, context: int | None = None, console: Console | None = None) -> None:
    """Print a report: what the file is, its bad rows by line, how long its rows are, and what would be learnt of the first."""
    console = console or Console(highlight=False)
    console.print(Group(*_parts(report, context, in_colour=console.color_system is not None)))


def _parts(report: Report, context: int | None, in_colour: bool) -> list[RenderableType]:
    loaded = report.loaded
    facts = Table.grid(padding=(0, 2))
    formats = ", ".join(f"{name} ({count:,})" for name, count in loaded.formats.most_common())
    facts.add_row("kind", f"{report.kind}, from {formats}")
    facts.add_row("rows", f"{report.raw:,} read → {len(loaded.rows):,} usable, {len(loaded.bad):,} bad")
    facts.add_row("serves as", ", ".join(f"{kind} ({count:,})" for kind, count in report.usable.items() if count))
    facts.add_row("duplicates", f"{report.duplicates:,} identical rows, {report.repeated_prompts:,} repeated prompts")
    facts.add_row("sha256", loaded.sha256.removeprefix("sha256:"))
    parts: list[RenderableType] = [Text(loaded.path, style="bold"), facts]
    parts += [Text(f"note: {note}", style="yellow") for note in loaded.notes]
    if loaded.bad:
        parts.append(Text("\nbad rows", style="bold red"))
        parts += [Text(f"  {problem}") for problem in loaded.bad[:_SHOWN]]
        if len(loaded.bad) > _SHOWN:
            parts.append(Text(f"  … and {len(loaded.bad) - _SHOWN:,} more (trainers data convert writes all of them to a file)"))
    parts += [Text(f"\nlength in {report.unit}", style="bold"), _lengths(report), _contexts(report, context)]
    legend = f"first row · {'green' if in_colour else '⟦…⟧'}: the loss looks at these tokens"
    parts += [Panel(_preview(passages, in_colour), title=legend, title_align="left") for passages in report.preview]
    return parts


def _preview(passages: Sequence[Passage], in_colour: bool) -> Text:
    """A row as the template writes it; trained passages are green, or in brackets where there are no colours."""
    text = Text()
    for passage in passages:
        shown = f"⟦{passage.text}⟧" if passage.trained and not in_colour else passage.text
        text.append(shown, style="green" if passage.trained else "dim")
    if len(text) > _LONGEST:
        text.truncate(_LONGEST)
        text.append(" …")
    return text


def _lengths(report: Report) -> Table:
    bins = histogram(report.lengths)
    most = max(count for _, _, count in bins)
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right")
    table.add_column(justify="right")
    for low, high, count in bins:
        table.add_row(f"{low:,} – {high - 1:,}", f"{count:,}", "█" * -(-_BAR * count // most))
    return table


def _contexts(report: Report, context: int | None) -> Text:
    ordered = sorted(report.lengths)
    middle, high = ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))]
    summary = f"median {middle:,} · 95 % {high:,} · longest {ordered[-1]:,} · altogether {sum(ordered):,}"
    if report.unit == "tokens":
        windows = sorted({*CONTEXTS, *([context] if context else [])})
        summary += "\nrows that fit: " + " · ".join(f"{window:,}: {report.fitting(window):.1%}" for window in windows)
    return Text(summary)
