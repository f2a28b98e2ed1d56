"""``evalkit judge``: parse, call, print."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelkit.errors import UserError, one_sentence

if TYPE_CHECKING:
    from rich.console import Console

    from evalkit.judge.session import Judging

app = typer.Typer(help="Have open-ended answers judged: by a served model, a checkpoint, or a reward model.", no_args_is_help=True)

_WHO = "Checkpoint, run (all its stages that chat), or file of answers; NAME=PATH names it. Give it once for each."
_PROMPTS = "bilingual, or a file: ours, canonical prompts, MT-bench, Vicuna, ColossalEval, AlpacaEval, BELLE."
_PRICE = "What a million tokens cost: read, written, and optionally read from the cache, such as 2.5,10,1.25."
_METRICS = "ColossalEval's evaluation prompt file: its metrics replace the criteria of its categories."
_METRICS_LANGUAGE = "The language --metrics is written in, en or zh."

Models = Annotated[list[str], typer.Option("-m", "--model", help=_WHO)]
Prompts = Annotated[str, typer.Option("-p", "--prompts", help=_PROMPTS)]
References = Annotated[Path | None, typer.Option(help="MT-bench's file of reference answers.")]
Languages = Annotated[str | None, typer.Option(help="Comma-separated: en, zh (default: all there are).")]
Categories = Annotated[str | None, typer.Option(help="Comma-separated; all by default.")]
Limit = Annotated[int | None, typer.Option(min=1, help="At most so many prompts of each category and language.")]
Checkpoint = Annotated[Path | None, typer.Option("--judge", help="Checkpoint that judges: a chat model, or a reward model.")]
Url = Annotated[str | None, typer.Option("--judge-url", help="Address of an OpenAI-compatible server (default: OpenAI's).")]
Name = Annotated[str | None, typer.Option("--judge-model", help="What that server calls the judge.")]
Key = Annotated[str | None, typer.Option("--api-key-env", help="Environment variable with its key (default: OPENAI_API_KEY).")]
Concurrency = Annotated[int, typer.Option(min=1, help="Questions under way at a time.")]
PerMinute = Annotated[float | None, typer.Option("--tokens-per-minute", min=1, help="At most so many tokens a minute, both ways.")]
Patience = Annotated[float, typer.Option(help="Seconds for which one question is tried.")]
Price = Annotated[str | None, typer.Option(help=_PRICE)]
MaxCost = Annotated[float | None, typer.Option("--max-cost", min=0, help="Stop before the judge costs more than this (needs --price).")]
JudgeTokens = Annotated[int, typer.Option("--judge-tokens", min=1, help="Longest verdict.")]
JudgePrompts = Annotated[Path | None, typer.Option(help="FastChat's judge_prompts.jsonl: ask in MT-bench's words.")]
Metrics = Annotated[Path | None, typer.Option(help=_METRICS)]
MetricsLanguage = Annotated[str, typer.Option(help=_METRICS_LANGUAGE)]
MaxTokens = Annotated[int, typer.Option(min=1, help="Longest answer.")]
Temperature = Annotated[float | None, typer.Option(help="Of answers (default: the category's own).")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of sampled answers and of resampling.")]
Dtype = Annotated[str | None, typer.Option(help="fp32, bf16 or fp16, for what runs on this machine.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:N.")]
Out = Annotated[Path | None, typer.Option(help="Result folder (default: in the contestants' run, else in results/).")]
Unequal = Annotated[bool, typer.Option("--allow-unequal", help="Rank even where some are unscored more often than others.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Answer, say what judging would take, and stop.")]


@app.command()
def score(
    context: typer.Context,
    model: Models,
    prompts: Prompts = "bilingual",
    references: References = None,
    languages: Languages = None,
    categories: Categories = None,
    limit: Limit = None,
    judge: Checkpoint = None,
    judge_url: Url = None,
    judge_model: Name = None,
    api_key_env: Key = None,
    concurrency: Concurrency = 8,
    tokens_per_minute: PerMinute = None,
    patience: Patience = 300.0,
    price: Price = None,
    max_cost: MaxCost = None,
    judge_tokens: JudgeTokens = 1024,
    judge_prompts: JudgePrompts = None,
    metrics: Metrics = None,
    metrics_language: MetricsLanguage = "en",
    max_tokens: MaxTokens = 512,
    temperature: Temperature = None,
    seed: Seed = 0,
    dtype: Dtype = None,
    device: Device = None,
    out: Out = None,
    allow_unequal: Unequal = False,
    dry_run: DryRun = False,
) -> None:
    """Give each answer a score from 1 to 10 by its category's criteria, with reasons."""
    with one_sentence():
        from evalkit.judge import session
        from evalkit.judge.contestants import Answering

        asked = session.Asked(model, prompts, references, _names(languages), _names(categories), limit)
        by, how = _judging(context), Answering(max_tokens, temperature, seed, dtype, device)
        session.judge(asked, by, how, out, _console(), allow_unequal=allow_unequal, dry_run=dry_run)


@app.command()
def battle(
    context: typer.Context,
    model: Models,
    prompts: Prompts = "bilingual",
    references: References = None,
    languages: Languages = None,
    categories: Categories = None,
    limit: Limit = None,
    schedule: Annotated[
        str, typer.Option(help="round-robin (all pairs on every prompt) or sparse (each meets one other on each).")
    ] = "round-robin",
    baseline: Annotated[str | None, typer.Option(help="Compare all others with this contestant only.")] = None,
    judge: Checkpoint = None,
    judge_url: Url = None,
    judge_model: Name = None,
    api_key_env: Key = None,
    concurrency: Concurrency = 8,
    tokens_per_minute: PerMinute = None,
    patience: Patience = 300.0,
    price: Price = None,
    max_cost: MaxCost = None,
    judge_tokens: JudgeTokens = 1024,
    judge_prompts: JudgePrompts = None,
    metrics: Metrics = None,
    metrics_language: MetricsLanguage = "en",
    max_tokens: MaxTokens = 512,
    temperature: Temperature = None,
    seed: Seed = 0,
    dtype: Dtype = None,
    device: Device = None,
    out: Out = None,
    allow_unequal: Unequal = False,
    dry_run: DryRun = False,
) -> None:
    """Compare answers two by two, each pair in both orders: win rates, ratings, and both at equal length."""
    with one_sentence():
        from evalkit.judge import session
        from evalkit.judge.contestants import Answering
        from evalkit.judge.schedule import SCHEDULES

        if schedule not in SCHEDULES:
            raise UserError(f"{schedule!r} is no schedule: use {' or '.join(SCHEDULES)}.")
        asked = session.Asked(model, prompts, references, _names(languages), _names(categories), limit)
        by, how = _judging(context), Answering(max_tokens, temperature, seed, dtype, device)
        matching = session.Matching(next(one for one in SCHEDULES if one == schedule), baseline)
        session.judge(asked, by, how, out, _console(), matching, allow_unequal, dry_run)


@app.command()
def votes(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="Exported votes, one JSON object per line.")],
    out: Annotated[Path, typer.Option(help="Folder for the judgments.")],
    judge: Checkpoint = None,
    judge_url: Url = None,
    judge_model: Name = None,
    api_key_env: Key = None,
    concurrency: Concurrency = 8,
    tokens_per_minute: PerMinute = None,
    patience: Patience = 300.0,
    price: Price = None,
    max_cost: MaxCost = None,
    judge_tokens: JudgeTokens = 1024,
    dtype: Dtype = None,
    device: Device = None,
) -> None:
    """Have the replies that people voted on judged, and tell how far judge and people agree."""
    with one_sentence():
        from evalkit.judge import session
        from evalkit.judge.contestants import Answering

        session.votes(file, _judging(context), Answering(dtype=dtype, device=device), out, _console())


@app.command()
def agree(
    a: Annotated[Path, typer.Argument(help="A judging, its judgments.jsonl, or exported votes.")],
    b: Annotated[Path, typer.Argument(help="Another one that compared the same replies.")],
) -> None:
    """Tell how far two judges, or a judge and people, agree: overall, by language and by category."""
    with one_sentence():
        from evalkit.judge import agreement, show

        left, right = agreement.read(a), agreement.read(b)
        show.agreement(left, right, agreement.compare(left, right), agreement.correlation(left, right), _console())


@app.command()
def prompts(
    name: Annotated[str, typer.Argument(help=_PROMPTS)] = "bilingual",
    references: References = None,
    category: Annotated[str | None, typer.Option(help="Print this category's prompts.")] = None,
) -> None:
    """List what a set of prompts holds, or print a category's prompts."""
    with one_sentence():
        from evalkit.judge import prompt_set, rubrics, show

        found = prompt_set.load(name, references)
        if category is None:
            show.prompts(found, rubrics.load(), _console())
        else:
            for prompt in found.pick(categories=[category]).prompts:
                for turn, text in enumerate(prompt.turns, 1):
                    typer.echo(f"[{prompt.language} {prompt.id} {turn}] {text}")
                    if reference := prompt.reference(turn):
                        typer.echo(f"    → {reference}")


def _judging(context: typer.Context) -> Judging:
    """Who judges, out of the options that all commands with a judge share."""
    from evalkit.judge.session import Judging

    given = context.params
    if given.get("metrics_language", "en") not in ("en", "zh"):
        raise UserError(f"--metrics-language {given['metrics_language']} is none of en and zh.")
    if given.get("judge_prompts") and given.get("metrics"):
        raise UserError("--judge-prompts asks in MT-bench's words, which have no metrics: leave out --metrics.")
    names = ("concurrency", "tokens_per_minute", "patience", "price", "max_cost", "judge_prompts", "metrics", "metrics_language")
    return Judging(
        path=given["judge"],
        url=given["judge_url"],
        model=given["judge_model"],
        key_env=given["api_key_env"],
        max_tokens=given["judge_tokens"],
        **{name: given[name] for name in names if name in given},
    )


def _names(text: str | None) -> list[str] | None:
    return [name.strip() for name in text.split(",") if name.strip()] if text else None


def _console() -> Console:
    """Where tables go: coloured in a terminal, plain in a pipe."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 160, highlight=False)
