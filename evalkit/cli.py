"""``evalkit run`` and ``evalkit tasks``: parse, call, print."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evalkit.judge.cli import app as judge_app
from modelkit.device import prepare_process
from modelkit.errors import UserError, one_sentence

if TYPE_CHECKING:
    from rich.console import Console

_TASKS_HELP = "Comma-separated: mmlu, cmmlu@official, a run's suite (pocket), one of its tasks (pocket.answer), a folder with a task.yaml."
_MODEL_HELP = "Checkpoint directory (a PEFT adapter's too), or owner/name on the hub; with --endpoint, what the server calls the model."
_RESULT_HELP = "A result folder, or its results.json."
app = typer.Typer(help="Score checkpoints: exact protocols, intervals, and a reason for everything unscored.", no_args_is_help=True)
app.add_typer(judge_app, name="judge")


@app.command()
def run(
    context: typer.Context,
    model: Annotated[str, typer.Option("-m", "--model", help=_MODEL_HELP)],
    tasks: Annotated[str, typer.Option("-t", "--tasks", help=_TASKS_HELP)],
    data: Annotated[Path | None, typer.Option(help="Folder that holds the benchmark in its original layout.")] = None,
    shots: Annotated[int | None, typer.Option(min=0, help="Examples before each question (default: the task's own).")] = None,
    method: Annotated[str | None, typer.Option(help="Comma-separated: letters, perplexity, generate (default: the task's own).")] = None,
    subjects: Annotated[str | None, typer.Option(help="Comma-separated subjects; all by default.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many questions of each task, from all subjects in turn.")] = None,
    split: Annotated[str | None, typer.Option(help="ceval's test split, whose answers aren't public: predictions for submission.")] = None,
    dtype: Annotated[str | None, typer.Option(help="fp32, bf16 or fp16 (default: bf16 on a GPU that can, fp32 elsewhere).")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:N (default: cuda where there is one).")] = None,
    batch_tokens: Annotated[int | None, typer.Option(min=1, help="Tokens in a batch (default: what suits the device).")] = None,
    exact: Annotated[bool, typer.Option("--exact", help="One question at a time, nothing reused, fp32 unless told.")] = False,
    chat: Annotated[bool, typer.Option("--chat/--no-chat", help="Ask multiple-choice questions through the chat template.")] = False,
    permute: Annotated[bool, typer.Option("--permute", help="Ask each question in every cyclic order of its options.")] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes on this machine that share the work.")] = 1,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a model on the hub.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of sampled replies.")] = 0,
    log_prompts: Annotated[bool, typer.Option("--log-prompts", help="Keep every prompt in the samples, not only its hash.")] = False,
    out: Annotated[Path | None, typer.Option(help="Result folder (default: <run>/eval/<id>, else results/<id>).")] = None,
    endpoint: Annotated[str | None, typer.Option(help="Address of an OpenAI-compatible server that has the model.")] = None,
    api_key_env: Annotated[str | None, typer.Option(help="Environment variable with its key (default: OPENAI_API_KEY).")] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests under way at a time.")] = 8,
    tokenizer: Annotated[Path | None, typer.Option(help="Folder of the served model's tokenizer, to make prompts fit.")] = None,
    patience: Annotated[float, typer.Option(help="Seconds for which one request is tried.")] = 300.0,
) -> None:
    """Measure a checkpoint on tasks, print a table, and write results.json with one line per question beside it.

    A killed evaluation goes on with the same command. Under torchrun, or with --workers, processes share the work.
    """
    with one_sentence(), _stoppable():
        from evalkit import session
        from evalkit.models.server import Endpoint
        from evalkit.planning import Wanted
        from evalkit.preparation import Settings

        wanted = Wanted(_names(tasks), data, shots, _some(method), _some(subjects), limit, split)
        served = Endpoint(endpoint, model, api_key_env, concurrency, tokenizer, patience) if endpoint else None
        settings = Settings(dtype, device, chat, seed, log_prompts, out, exact, permute, batch_tokens, revision, served)
        session.run(model, wanted, settings, workers, _again(context), _console())


@app.command()
def tasks() -> None:
    """List the benchmarks with their protocols and methods, and the kinds of task a task.yaml can hold."""
    with one_sentence():
        from evalkit import catalogue

        console = _console()
        console.print(catalogue.table())
        console.print("* what the benchmark's name alone means; every score says which average is its official one")


@app.command()
def inspect(
    task: Annotated[str, typer.Argument(help="A task, named as for run.")],
    model: Annotated[str, typer.Option("-m", "--model", help="Checkpoint whose tokenizer, context and chat template count.")],
    n: Annotated[int, typer.Option("-n", min=1, help="How many questions, from all subjects in turn.")] = 1,
    data: Annotated[Path | None, typer.Option(help="Folder that holds the benchmark in its original layout.")] = None,
    shots: Annotated[int | None, typer.Option(min=0, help="Examples before each question (default: the task's own).")] = None,
    method: Annotated[str | None, typer.Option(help="Comma-separated: letters, perplexity, generate (default: the task's own).")] = None,
    subjects: Annotated[str | None, typer.Option(help="Comma-separated subjects; all by default.")] = None,
    chat: Annotated[bool, typer.Option("--chat/--no-chat", help="Ask through the chat template.")] = False,
) -> None:
    """Print the exact prompt of a question, with its white space, tokens and answers; no weights are loaded."""
    with one_sentence():
        from transformers import AutoConfig

        from evalkit import inspection
        from evalkit.planning import Candidate, Wanted, plan
        from modelkit import checkpoint, hub
        from modelkit.chat import has_template
        from modelkit.context import longest_sequence
        from modelkit.run import run_of

        path = hub.find(model, None)
        tokenizer = checkpoint.load_tokenizer(path)
        if chat and not has_template(path):
            raise UserError(f"--chat needs a chat template, and {model} has none.")
        wanted = Wanted([task], data, shots, _some(method), _some(subjects), n)
        planned = plan(wanted, Candidate(path, checkpoint.is_reward_model(path), has_template(path), run_of(path)))
        console, context = _console(), longest_sequence(AutoConfig.from_pretrained(path))
        for one in planned.tasks:
            for asked in inspection.inspect(one, tokenizer, context, chat):
                console.print(inspection.shown(one, asked, tokenizer))


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
        from evalkit.notes import notes
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
        for line in notes(recorded.result):
            typer.echo(line)


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(help=_RESULT_HELP)],
    b: Annotated[Path, typer.Argument(help="The result to compare it with.")],
    common: Annotated[bool, typer.Option("--common", help="Compare the questions both have, where data or questions differ.")] = False,
    flips: Annotated[int, typer.Option(min=0, help="List so many questions that one answers right and the other wrong.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Write all of these questions to a .jsonl or .csv file.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = 0,
) -> None:
    """Compare two results question by question: exact McNemar tests, bootstrap intervals, flipped answers."""
    with one_sentence():
        from evalkit import comparison_table
        from evalkit.compare import compare
        from evalkit.recorded import read

        console, left, right = _console(), read(a), read(b)
        compared, notes = compare(left, right, common, seed)
        console.print(f"A {left.folder} · {left.name}\nB {right.folder} · {right.name}", markup=False)
        console.print(comparison_table.table(compared))
        for line in [*notes, *comparison_table.remarks(compared)]:
            typer.echo(line)
        if flips:
            console.print(comparison_table.flips_table([flip for one in compared for flip in one.flips][:flips]))
        if out is not None:
            typer.echo(f"{comparison_table.write_flips(compared, out):,} flipped questions → {out}")


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
    prepare_process(spin=4000)
    app()


@contextmanager
def _stoppable() -> Iterator[None]:
    """End on SIGTERM as on Ctrl-C, with one sentence: what has been measured is in the journal."""

    def stop(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_IGN)
        raise SystemExit(_stopped(128 + number))

    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, stop) if main else None
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(_stopped(128 + signal.SIGINT)) from None
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def _stopped(status: int) -> int:
    typer.echo("stopped: what has been measured is kept, and the same command goes on from there.", err=True)
    return status


def _again(context: typer.Context) -> list[str]:
    """The words of this very command without --workers, for the processes that share its work."""
    words: list[str] = []
    for parameter in context.command.params:
        value = context.params.get(parameter.name or "")
        if parameter.name != "workers" and value != parameter.default:
            words += [parameter.opts[-1]] if value is True else [parameter.opts[-1], str(value)]
    return words


def _some(text: str | None) -> list[str] | None:
    """The names in an option's *text*, if the option was given."""
    return None if text is None else _names(text)


def _names(text: str) -> list[str]:
    """The names in *text*.

    :raises UserError: when there is none.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UserError(f"{text!r} names nothing: give names with commas between them, or leave the option out.")
    return names


def _console() -> Console:
    """Where tables go: coloured in a terminal, plain in a pipe."""
    from rich.console import Console

    return Console(width=_width(), highlight=False)


def _width() -> int | None:
    """Columns of a table: the terminal's, or enough for a file."""
    return None if sys.stdout.isatty() else 160
