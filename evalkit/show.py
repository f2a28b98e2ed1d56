"""A result in the terminal: its table, and its answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from evalkit.calibration import normalised
from evalkit.notes import number
from evalkit.recorded import Line, Recorded
from evalkit.statistics import chance_normalised
from modelkit.errors import UserError
from modelkit.records import Result

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table


def table(result: Result) -> Table:
    """One row for each task and method. A star marks the average that the protocol calls official.

    ``over`` is the value with ``guessing`` at 0 and all right at 100 %; ``majority`` what always giving the same letter scores.
    """
    made = _table(f"{result.model.path} · {result.model.dtype}")
    for name in ("task", "protocol", "method"):
        made.add_column(name, overflow="fold")
    for name in ("shots", "n", "unscored", "value", "95 %", "micro", "macro", "guessing", "over", "majority"):
        made.add_column(name, justify="right", no_wrap=True)
    for task, score in result.tasks.items():
        choice = score.kind == "choice"
        extra = score.model_extra or {}
        for method, found in score.methods.items():
            low, high = found.ci95 or (None, None)
            chance = extra.get("chance")
            over_chance = None if chance is None or found.value is None else chance_normalised(found.value, chance)
            made.add_row(
                task,
                extra["protocol"] if choice else "",
                method if choice else found.metric,
                str(score.shots) if choice else "",
                f"{found.n:,}",
                f"{found.unscored:,}",
                number(found, found.value),
                f"{number(found, low)}–{number(found, high)}" if found.ci95 else "",
                number(found, found.micro) + "*" * (found.official == "micro") if choice else "",
                number(found, found.macro) + "*" * (found.official == "macro") if choice else "",
                *(_percent(value) for value in (chance, over_chance, extra.get("majority"))),
            )
    return made


def subjects(result: Result, wanted: Sequence[str]) -> Table:
    """The rows of *wanted* subjects.

    :raises UserError: for a subject that the result doesn't have.
    """
    made = _table()
    for name in ("subject", "task", "method"):
        made.add_column(name, overflow="fold")
    for name in ("n", "unscored", "value", "majority"):
        made.add_column(name, justify="right")
    known = {subject for score in result.tasks.values() for found in score.methods.values() for subject in found.subjects}
    for subject in wanted:
        if subject not in known:
            raise UserError(f"the result has no subject {subject!r}: it has {', '.join(sorted(known)) or 'none'}.")
        for task, score in result.tasks.items():
            for method, found in score.methods.items():
                if row := found.subjects.get(subject):
                    always = ((score.model_extra or {}).get("majority_by_subject") or {}).get(subject)
                    made.add_row(subject, task, method, f"{row.n:,}", f"{row.unscored:,}", number(found, row.accuracy), _percent(always))
    return made


def answers(recorded: Recorded, wanted: Sequence[str] = (), wrong: bool = False, id: str | None = None) -> list[tuple[str, Line]]:
    """(task, line) of what was asked for: of these subjects, only what is wrong, of one question.

    :raises UserError: when no question has this *id*.
    """
    found = [
        (task, line)
        for task in recorded.result.tasks
        for line in recorded.lines(task, permuted=id is not None)
        if (not wanted or line.subject in wanted) and (not wrong or line.correct is False) and id in (None, line.id)
    ]
    if id is not None and not found:
        raise UserError(f"{recorded.folder} has no question {id!r}: ids are <subject>/<row of its file, from 0>.")
    return found


def answers_table(lines: Iterable[tuple[str, Line]]) -> Table:
    """One row for each answer, with its probability among the letters where there is one."""
    from rich.text import Text

    made = _table()
    for name in ("task", "method", "question", "gold", "answer", "p(answer)", "p(gold)"):
        made.add_column(name, justify="right" if name.startswith("p(") else "left", overflow="fold")
    for task, line in lines:
        style = "green" if line.correct else "red" if line.correct is False else ""
        shares = _shares(line)
        chosen, gold = (f"{shares[letter]:.3f}" if letter in shares else "" for letter in (line.prediction, line.gold))
        made.add_row(task, line.method, Text(line.id), Text(short(line.gold)), Text(short(line.prediction), style), chosen, gold)
    return made


def detail(task: str, line: Line) -> RenderableType:
    """All that is known of one answer: the prompt with visible ends, every letter's probability, the reply, the reason."""
    from rich.console import Group
    from rich.panel import Panel
    from rich.text import Text

    parts: list[RenderableType] = [Text(f"{task} · {line.method} · {line.id}", "bold")]
    if line.prompt is not None:
        parts.append(Panel(Text(line.prompt), title="prompt", title_align="left"))
    verdict = "unscored" if line.correct is None else "right" if line.correct else "wrong"
    parts.append(Text(f"gold {short(line.gold)} · answer {short(line.prediction)} · {verdict}"))
    shares = _shares(line)
    scores = [f"{letter} {score:.4f}" + f" ({shares[letter]:.1%})" * (letter in shares) for letter, score in (line.scores or {}).items()]
    parts.append(Text(" · ".join(scores)))
    further = {"shots used": line.shots_used, "reason": line.reason, **(line.model_extra or {})}
    parts += [Text(f"{name}: {value}") for name, value in further.items() if value is not None]
    if line.prompt is None:
        parts.append(Text("the prompt was not kept: run with --log-prompts", "dim"))
    return Group(*parts)


def short(answer: str | None) -> str:
    """An answer in one short line; none at all is a dash."""
    text = "–" if answer is None else " ".join(answer.split())
    return text if len(text) <= 40 else text[:39] + "…"


def _shares(line: Line) -> dict[str, float]:
    """The letters' probabilities, normalised; other methods' scores are none."""
    return normalised(line.scores) if line.method == "letters" and line.scores else {}


def _table(title: str | None = None) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    return Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"
