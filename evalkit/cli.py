"""``evalkit run`` and ``evalkit tasks``: parse, call, print."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelkit.device import prepare_process
from modelkit.errors import one_sentence

if TYPE_CHECKING:
    from rich.console import Console

_TASKS_HELP = "Comma-separated: mmlu, cmmlu@official, a run's suite (pocket), one of its tasks (pocket.answer), a folder with a task.yaml."
_RESULT_HELP = "A result folder, or its results.json."
app = typer.Typer(help="Score checkpoints: exact protocols, intervals, and a reason for everything unscored.", no_args_is_help=True)


KINDS = {
    "choice": "multiple choice in MMLU's CSV layout",
    "answer": "greedy chat answers with known alternatives",
    "pairs": "preference pairs, for reward models",
    "reward": "sampled replies under a reward model, beside a reference checkpoint",
    "text": "texts to predict: bits per byte",
}


@app.command()
def run(
    model: Annotated[Path, typer.Option("-m", "--model", help="Checkpoint directory.")],
    tasks: Annotated[str, typer.Option("-t", "--tasks", help=_TASKS_HELP)],
    data: Annotated[Path | None, typer.Option(help="Folder that holds the benchmark in its original layout.")] = None,
    shots: Annotated[int | None, typer.Option(min=0, help="Examples before each question (default: the task's own).")] = None,
    method: Annotated[str | None, typer.Option(help="Comma-separated: letters, perplexity (default: the task's own).")] = None,
    subjects: Annotated[str | None, typer.Option(help="Comma-separated subjects; all by default.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many questions of each task, from all subjects in turn.")] = None,
    dtype: Annotated[str, typer.Option(help="fp32, bf16 or fp16.")] = "fp32",
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:N (default: cuda where there is one).")] = None,
    chat: Annotated[bool, typer.Option("--chat/--no-chat", help="Ask multiple-choice questions through the chat template.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of sampled replies.")] = 0,
    log_prompts: Annotated[bool, typer.Option("--log-prompts", help="Keep every prompt in the samples, not only its hash.")] = False,
    out: Annotated[Path | None, typer.Option(help="Result folder (default: <run>/eval/<id>, else results/<id>).")] = None,
) -> None:
    """Measure a checkpoint on tasks, print a table, and write results.json with one line per question beside it."""
    with one_sentence():
        from rich.console import Console

        from evalkit import show
        from evalkit.planning import Wanted
        from evalkit.run import Settings, evaluate

        wanted = Wanted(_names(tasks), data, shots, _names(method) if method else None, _names(subjects) if subjects else None, limit)
        settings = Settings(dtype, device, chat, seed, log_prompts, out)
        notes = Console(stderr=True, highlight=False, soft_wrap=True)
        done = evaluate(model, wanted, settings, say=lambda line: notes.print(line, markup=False))
        Console(width=_width()).print(show.table(done.result))
        for line in show.notes(done.result):
            typer.echo(line)
        speed = done.result.speed
        typer.echo(f"{speed.seconds:.1f} s, {speed.questions_per_s:.1f} questions/s, {speed.tokens_computed:,} tokens → {done.out}")
        if done.lost:
            typer.echo(f"error: {done.lost} questions are neither scored nor have a reason: please report this.", err=True)
            raise typer.Exit(1)


@app.command()
def tasks() -> None:
    """List the benchmarks with their protocols and methods, and the kinds of task a task.yaml can hold."""
    with one_sentence():
        from rich.console import Console
        from rich.table import Table

        from evalkit.planning import BENCHMARKS, CHOICE_METHODS

        table = Table("task", "protocol", "methods", "asks")
        for name, (protocol, about) in BENCHMARKS.items():
            table.add_row(name, f"{name}@{protocol}", ", ".join(CHOICE_METHODS), about)
        for kind, about in KINDS.items():
            table.add_row("task.yaml", f"kind: {kind}", ", ".join(CHOICE_METHODS) if kind == "choice" else kind, about)
        Console(width=_width()).print(table)


@app.command()
def show(
    result: Annotated[Path, typer.Argument(help=_RESULT_HELP)],
    subject: Annotated[str | None, typer.Option(help="Comma-separated subjects: their scores and answers.")] = None,
    wrong: Annotated[bool, typer.Option("--wrong", help="List the wrong answers.")] = False,
    id: Annotated[str | None, typer.Option(help="Everything on one question, such as law/3.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="List at most so many answers.")] = 50,
) -> None:
    """Print a result's table again, or its answers."""
    with one_sentence():
        from evalkit import show as shown
        from evalkit.recorded import read

        console, recorded = _console(), read(result)
        wanted = _names(subject) if subject else []
        if id is not None:
            for task, answer in shown.answers(recorded, wanted, wrong, id):
                console.print(shown.detail(task, answer))
            return
        console.print(shown.subjects(recorded.result, wanted) if wanted else shown.table(recorded.result))
        if wanted or wrong:
            listed = shown.answers(recorded, wanted, wrong)
            console.print(shown.answers_table(listed[:limit]))
            if len(listed) > limit:
                console.print(f"{len(listed) - limit:,} more: --limit {len(listed)} lists all.")
            return
        for line in shown.notes(recorded.result):
            typer.echo(line)


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(help=_RESULT_HELP)],
    b: Annotated[Path, typer.Argument(help="The result to compare it with.")],
    common: Annotated[bool, typer.Option("--common", help="Compare the questions both have, where data or questions differ.")] = False,
    flips: Annotated[int, typer.Option(min=0, help="List so many questions that one answers right and the other wrong.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Write all of these questions to a .jsonl or .csv file.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
) -> None:
    """Compare two results question by question: exact McNemar tests, bootstrap intervals, flipped answers."""
    with one_sentence():
        from evalkit import compare as comparing
        from evalkit.recorded import read

        console, left, right = _console(), read(a), read(b)
        compared, notes = comparing.compare(left, right, common, seed)
        console.print(f"A {left.folder} · {left.name}\nB {right.folder} · {right.name}", markup=False)
        console.print(comparing.table(compared))
        for line in [*notes, *comparing.remarks(compared)]:
            typer.echo(line)
        if flips:
            console.print(comparing.flips_table([flip for one in compared for flip in one.flips][:flips]))
        if out is not None:
            typer.echo(f"{comparing.write_flips(compared, out):,} flipped questions → {out}")


@app.command()
def export(
    result: Annotated[Path, typer.Argument(help=_RESULT_HELP)],
    format: Annotated[str, typer.Option(help="lm-eval (results_*.json and samples_*.jsonl) or csv (one file of all answers).")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for lm-eval, file for csv (default: lm-eval/ or answers.csv in the result).")
    ] = None,
) -> None:
    """Write a result in another tool's format."""
    with one_sentence():
        from evalkit import export as exporting
        from evalkit.recorded import read
        from modelkit.errors import UserError

        recorded = read(result)
        if format == "lm-eval":
            files = exporting.to_lm_eval(recorded, out or recorded.folder / "lm-eval")
            if left_out := exporting.unscored(recorded):
                typer.echo(f"{left_out:,} unscored answers have no place in that format and are left out.")
        elif format == "csv":
            files = exporting.to_csv(recorded, out or recorded.folder / "answers.csv")
        else:
            raise UserError(f"{format!r} is no format: use lm-eval or csv.")
        typer.echo(f"{len(files):,} files → {files[0].parent}" if len(files) > 1 else f"→ {files[0]}")


@app.command()
def submit(
    benchmark: Annotated[str, typer.Argument(help="ceval: the only benchmark here whose right answers aren't public.")],
    result: Annotated[Path, typer.Argument(help=_RESULT_HELP)],
    out: Annotated[Path, typer.Option(help="The JSON file to hand in.")],
    method: Annotated[str | None, typer.Option(help="Whose answers (default: the task's first method).")] = None,
    fill: Annotated[
        str | None, typer.Option(help="Letter for questions without an answer, A to D (default: such questions are an error).")
    ] = None,
) -> None:
    """Write C-Eval's submission file out of a result of its test split, checked to be whole."""
    with one_sentence():
        from evalkit import submit as submitting
        from evalkit.recorded import read
        from modelkit.errors import UserError

        if benchmark != "ceval":
            raise UserError(f"{benchmark!r} takes no submissions: use ceval.")
        if fill is not None and fill not in set("ABCD"):
            raise UserError(f"--fill {fill} is no letter of C-Eval's: use A, B, C or D.")
        made, filled = submitting.submission(read(result), method, fill)
        submitting.write(made, out)
        questions = sum(map(len, made.values()))
        typer.echo(f"{questions:,} answers in {len(made)} subjects → {out}" + f"; {filled:,} of them are --fill {fill}" * bool(filled))


def main() -> None:
    """Entry point."""
    prepare_process()
    app()


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _console() -> Console:
    """Where tables go: coloured in a terminal, plain in a pipe."""
    from rich.console import Console

    return Console(width=_width(), highlight=False)


def _width() -> int | None:
    """Columns of a table: the terminal's, or enough for a file."""
    return None if sys.stdout.isatty() else 120
