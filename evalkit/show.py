"""The table at the end of an evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelkit.records import MethodScore, Result

if TYPE_CHECKING:
    from rich.table import Table


def table(result: Result) -> Table:
    """One row for each task and method. A star marks the average that the protocol calls official."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    made = Table(title=f"{result.model.path} · {result.model.dtype}", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("task", "protocol", "method"):
        made.add_column(name, overflow="fold")
    for name in ("shots", "n", "unscored", "value", "95 %", "micro", "macro", "chance"):
        made.add_column(name, justify="right", no_wrap=True)
    for task, score in result.tasks.items():
        choice = score.kind == "choice"
        extra = score.model_extra or {}
        for method, found in score.methods.items():
            low, high = found.ci95 or (None, None)
            made.add_row(
                task,
                extra["protocol"] if choice else "",
                method if choice else found.metric,
                str(score.shots) if choice else "",
                f"{found.n:,}",
                f"{found.unscored:,}",
                _number(found, found.value),
                f"{_number(found, low)}–{_number(found, high)}" if found.ci95 else "",
                _number(found, found.micro) + "*" * (found.official == "micro") if choice else "",
                _number(found, found.macro) + "*" * (found.official == "macro") if choice else "",
                f"{extra['chance']:.1%}" if choice else "",
            )
    return made


def notes(result: Result) -> list[str]:
    """What a reader of the table should know beside it: shots dropped, questions unscored, tasks' further numbers."""
    lines = []
    for task, score in result.tasks.items():
        if score.shots and set(score.shots_used) != {str(score.shots)}:
            used = ", ".join(f"{shots}: {count:,}" for shots, count in score.shots_used.items())
            lines.append(f"{task}: not all {score.shots} shots fit the model's context; questions by shots used: {used or 'none'}")
        lines += [f"{task}: {count:,} unscored: {reason}" for reason, count in score.unscored_reasons.items()]
        if tokens := (score.model_extra or {}).get("letter_tokens"):
            lines.append(f"{task}: letters are tokens {tokens}; beginning of sequence: {(score.model_extra or {})['bos']}")
        for found in score.methods.values():
            further = {name: value for name, value in (found.model_extra or {}).items() if isinstance(value, int | float)}
            if further:
                lines.append(f"{task}: " + ", ".join(f"{name} {value:.4g}" for name, value in further.items()))
    return lines


def _number(found: MethodScore, value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.1%}" if found.micro is not None else f"{value:.4f}"
