"""A result in the terminal: its table, what to know beside it, and its answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from evalkit.calibration import normalised
from evalkit.recorded import Line, Recorded
from evalkit.statistics import chance_normalised
from modelkit.errors import UserError
from modelkit.records import MethodScore, Result

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

_MANY_UNPARSED = 0.05


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
                _number(found, found.value),
                f"{_number(found, low)}–{_number(found, high)}" if found.ci95 else "",
                _number(found, found.micro) + "*" * (found.official == "micro") if choice else "",
                _number(found, found.macro) + "*" * (found.official == "macro") if choice else "",
                *(_percent(value) for value in (chance, over_chance, extra.get("majority"))),
            )
    return made


def notes(result: Result) -> list[str]:
    """What a reader of the table should know beside it: shots dropped, questions unscored, tasks' further numbers."""
    lines = []
    for task, score in result.tasks.items():
        extra = score.model_extra or {}
        if score.shots and set(score.shots_used) != {str(score.shots)}:
            used = ", ".join(f"{shots}: {count:,}" for shots, count in score.shots_used.items())
            lines.append(f"{task}: not all {score.shots} shots fit the model's context; questions by shots used: {used or 'none'}")
        if approximate := extra.get("approximate"):
            lines.append(f"{task} is approximate: {approximate}")
        if missing := extra.get("missing_subjects"):
            named = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
            lines.append(f"{task}: not the official number, since {len(missing)} of the benchmark's subjects are missing: {named}")
        if oddities := extra.get("data_notes"):
            lines.append(f"{task}: in its data, by row in quarantine.jsonl: " + ", ".join(f"{rule} {n:,}" for rule, n in oddities.items()))
        lines += [f"{task}: {count:,} unscored: {reason}" for reason, count in score.unscored_reasons.items()]
        if tokens := extra.get("letter_tokens"):
            lines.append(f"{task}: letters are tokens {tokens}; beginning of sequence: {extra['bos']}")
        for method, found in score.methods.items():
            name = f"{task} · {method}"
            further = dict(found.model_extra or {})
            if checked := further.get("verified"):
                lines.append(f"{name}: {checked['n']:,} scored again, alone and without reuse: max |Δ log p| {checked['max_delta']:.1e}")
            further.pop("over_chance", None)
            if unparsed := further.pop("unparsed", 0):
                much = " – many: read some of them before you trust the score" if unparsed > _MANY_UNPARSED * found.n else ""
                lines.append(f"{name}: {unparsed:,} replies of {found.n:,} state no answer{much}")
            if shares := further.get("normalisations"):
                lines.append(
                    f"{name}: value by log-probability " + ", ".join(f"{kind} {_number(found, value)}" for kind, value in shares.items())
                )
            if sets := further.get("multiple"):
                lines.append(
                    f"{name}: {sets['n']:,} questions with several right options: {sets['exact_match']:.1%} whole sets, "
                    f"{sets['partial_credit']:.1%} with partial credit"
                )
            numbers = {key: value for key, value in further.items() if isinstance(value, float) or (isinstance(value, int) and value)}
            if numbers:
                lines.append(f"{name}: " + ", ".join(f"{key} {value:.4g}" for key, value in numbers.items()))
            for exam, part in (further.get("exam") or {}).items():
                lines.append(
                    f"{name}: {part['points']:.1f} of the {part['of']:.0f} points that objective papers decide in the exam of {exam}"
                )
            if sure := further.get("calibration"):
                lines.append(f"{name}: mean confidence {sure['confidence']:.1%}, ECE {sure['ece']:.3f}, Brier score {sure['brier']:.3f}")
            if turned := further.get("permutation"):
                lines.append(f"{name}: {_permutation(turned)}")
    return lines


def subjects(result: Result, wanted: Sequence[str]) -> Table:
    """The rows of *wanted* subjects.

    :raises UserError: for a subject that the result doesn't have.
    """
    made = _table()
    for name in ("subject", "task", "method"):
        made.add_column(name, overflow="fold")
    for name in ("n", "unscored", "value"):
        made.add_column(name, justify="right")
    known = {subject for score in result.tasks.values() for found in score.methods.values() for subject in found.subjects}
    for subject in wanted:
        if subject not in known:
            raise UserError(f"the result has no subject {subject!r}: it has {', '.join(sorted(known)) or 'none'}.")
        for task, score in result.tasks.items():
            for method, found in score.methods.items():
                if row := found.subjects.get(subject):
                    made.add_row(subject, task, method, f"{row.n:,}", f"{row.unscored:,}", _number(found, row.accuracy))
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


def _permutation(found: dict) -> str:
    if not found["n"]:
        return "no question was scored in all orders of its options"
    accuracies = ", ".join(f"{share:.1%}" for share in found["accuracy"])
    chosen = ", ".join(f"{letter} {place['chosen']:.1%}" for letter, place in found["places"].items())
    return (
        f"options in every order, {found['n']:,} questions: accuracy {accuracies} (mean {found['mean']:.1%}); same text chosen in all "
        f"orders {found['consistency']:.1%}; chosen by place {chosen}; recall varies by {found['recall_sd']:.3f} between places"
    )


def _table(title: str | None = None) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    return Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def _number(found: MethodScore, value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.1%}" if found.micro is not None else f"{value:.4f}"
