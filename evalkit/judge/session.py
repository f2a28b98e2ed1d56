"""What ``evalkit judge`` does from start to end: who answers, who judges, what it would take, what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from evalkit import results
from evalkit.bench import progress
from evalkit.judge import (
    agreement,
    asking,
    contestants,
    fastchat,
    judges,
    judging,
    outcome,
    prompt_set,
    rubrics,
    schedule,
    served,
    standing,
)
from evalkit.judge import show as shown
from evalkit.judge.answers import Answer
from evalkit.judge.cache import Table, key_of
from evalkit.judge.contestants import Answering, Contestant
from evalkit.judge.judges import Judge, RewardJudge
from evalkit.judge.judging import Bench
from evalkit.judge.limits import Pace, Prices, Spending
from evalkit.judge.outcome import Mode, Outcome
from evalkit.judge.prompt_set import PromptSet
from evalkit.judge.schedule import Schedule
from evalkit.judge.votes import Voted
from evalkit.judge.wording import RubricWording, Wording
from evalkit.models.server import Endpoint
from modelkit.device import choose_device
from modelkit.errors import UserError
from modelkit.run import run_of

if TYPE_CHECKING:
    from evalkit.bench import Watch

OPENAI = "https://api.openai.com/v1"


@dataclass(frozen=True)
class Asked:
    """Who is asked what: ``models`` as :func:`evalkit.judge.contestants.find` takes them, and which prompts of which set."""

    models: Sequence[str]
    prompts: str = prompt_set.BILINGUAL
    references: Path | None = None
    languages: Sequence[str] | None = None
    categories: Sequence[str] | None = None
    limit: int | None = None


@dataclass(frozen=True)
class Judging:
    """Who judges and how: a checkpoint at ``path``, or the ``model`` that a server at ``url`` has.

    :param price: what a million tokens cost, as :meth:`evalkit.judge.limits.Prices.parse` takes it.
    :param judge_prompts: FastChat's file; :param metrics: ColossalEval's.
    """

    path: Path | None = None
    url: str | None = None
    model: str | None = None
    key_env: str | None = None
    concurrency: int = 8
    tokens_per_minute: float | None = None
    patience: float = 300.0
    price: str | None = None
    max_cost: float | None = None
    max_tokens: int = judges.MAX_TOKENS
    judge_prompts: Path | None = None
    metrics: Path | None = None
    metrics_language: prompt_set.Language = "en"


@dataclass(frozen=True)
class Matching:
    """Who meets whom in a battle."""

    schedule: Schedule = "round-robin"
    baseline: str | None = None


def judge(
    asked: Asked,
    by: Judging,
    how: Answering,
    out: Path | None,
    console: Console,
    matching: Matching | None = None,
    allow_unequal: bool = False,
    dry_run: bool = False,
) -> None:
    """Have all contestants answer and be judged: one by one, or, with *matching*, against each other.

    What was answered or judged before, in this or another judging beside *out*, is taken from there. The result is printed and
    written once it is whole; a judging that stops on its way keeps what it has, and the same command goes on.

    :param dry_run: stop before the judge is asked, having said what that would take.
    :raises UserError: for input that won't do, and when the judge can't be asked any more.
    """
    say = _speaker()
    start = time.monotonic()
    prompts = prompt_set.load(asked.prompts, asked.references).pick(asked.languages, asked.categories, asked.limit)
    found = rubrics.load(by.metrics, by.metrics_language)
    wording: Wording = fastchat.load(by.judge_prompts) if by.judge_prompts else RubricWording(found)
    who = contestants.find(asked.models, prompts, how, say)
    if matching is not None:
        schedule.pairs([one.name for one in who], 1, matching.schedule, matching.baseline)  # refused before anything is answered
    judge = _connected(by, how, say)
    if isinstance(judge, RewardJudge) and matching is None:
        judge.score(0.0)  # has a scale, or is refused before anything is answered
    mode: Mode = "score" if matching is None else "battle"
    settings = asdict(how) | (asdict(matching) if matching else {})
    fingerprints = [one.record.fingerprint for one in who]
    identity = key_of(mode, judge.identity, wording.identity, prompts.sha256, fingerprints, settings).removeprefix("sha256:")[:8]
    folder = out or _home(who) / outcome.slug(f"judge-{mode}-{prompts.name}-{judge.name}-{identity}")
    results.check_writable(folder, outcome.SUMMARY)
    say(f"{len(who)} contestants ({', '.join(one.name for one in who)}) · {len(prompts.prompts):,} prompts of {prompts.name} → {folder}")

    with progress() as watch:
        given = _answers(who, prompts, found, how, folder.parent / "judge-cache", say, watch)
        bench = Bench(judge, wording, _table(folder.parent / "judge-cache", judge, say), say)
        by_id = {prompt.key: prompt for prompt in prompts.prompts}
        matches = _matches(given, [one.name for one in who], prompts, matching) if matching else []
        if dry_run:
            say(_estimate(bench, given, matches, by_id))
            return
        bench = _watched(bench, given, matches, by_id, watch)
        judgments = judging.pairs(bench, matches, by_id) if matching else judging.singles(bench, given, by_id)

    unranked = None if allow_unequal else standing.unequal(judgments, [one.name for one in who])
    made = Outcome(
        mode=mode,
        judge={"name": judge.name, "identity": judge.identity, "wording": wording.identity},
        prompts=prompts,
        rubrics=found,
        contestants=who,
        answers=given,
        judgments=judgments,
        identity=identity,
        seed=how.seed,
        device=str(choose_device(how.device)),
        seconds=time.monotonic() - start,
        spent="one reading of each answer" if isinstance(judge, RewardJudge) else judge.spent(),
        unranked=unranked,
        battle=standing.battle(judgments, how.seed) if matching else None,
        settings=settings,
    )
    outcome.write(folder, made)
    shown.outcome(made, folder, console)


def votes(file: Path, by: Judging, how: Answering, out: Path, console: Console) -> None:
    """Have the two replies of every vote judged, and tell how far judge and people agree.

    :raises UserError: for a file without votes, and when the judge can't be asked any more.
    """
    say = _speaker()
    voted = Voted.read(file)
    found = rubrics.load(by.metrics, by.metrics_language)
    judge = _connected(by, how, say)
    results.check_writable(out, outcome.JUDGMENTS)
    bench = Bench(judge, RubricWording(found), _table(out.parent / "judge-cache", judge, say), say)
    with progress() as watch:
        bench = _watched(bench, [], voted.matches, voted.prompts, watch)
        judgments = judging.pairs(bench, voted.matches, voted.prompts)
    outcome.write_votes(out, judgments, [answer for match in voted.matches for answer in match])
    say(f"→ {out}" + ("" if isinstance(judge, RewardJudge) else f" · {judge.spent()}"))
    people, machine = agreement.of_votes(voted.votes, str(file)), agreement.of_judgments(judgments, judge.name)
    shown.agreement(people, machine, agreement.compare(people, machine, how.seed), None, console)


def _connected(by: Judging, how: Answering, say: Callable[[str], None]) -> Judge:
    if (by.path is None) == (by.model is None):
        raise UserError("who judges? name a checkpoint with --judge, or a served model with --judge-model and --judge-url.")
    if by.path is not None:
        if by.url or by.price or by.max_cost is not None:
            raise UserError("--judge-url, --price and --max-cost are for a served judge: leave them out with --judge.")
        return judges.load(by.path, how.dtype, how.device, by.max_tokens)
    endpoint = Endpoint(by.url or OPENAI, str(by.model), by.key_env, by.concurrency, None, by.patience)
    spending = Spending(Prices.parse(by.price) if by.price else None, by.max_cost)
    made = served.connect(endpoint, spending, Pace(by.tokens_per_minute), by.max_tokens)
    say(f"{endpoint.url}: {made.manners}.")
    return made


def _answers(
    who: Sequence[Contestant],
    prompts: PromptSet,
    found: rubrics.Rubrics,
    how: Answering,
    cache: Path,
    say: Callable[[str], None],
    watch: Watch,
) -> list[Answer]:
    given = []
    for one in who:
        table = Table(cache, f"answers-{one.record.fingerprint.rpartition(':')[2][:16]}", say)
        given += contestants.answer(one, prompts, found, how, table, watch(f"{one.name} answers", prompts.turns, 0))
    return given


def _matches(given: Sequence[Answer], names: Sequence[str], prompts: PromptSet, matching: Matching) -> list[tuple[Answer, Answer]]:
    by_key = {answer.key: answer for answer in given}
    meetings = schedule.pairs(names, len(prompts.prompts), matching.schedule, matching.baseline)
    return [
        (by_key[a, prompt.language, prompt.id, turn], by_key[b, prompt.language, prompt.id, turn])
        for prompt, met in zip(prompts.prompts, meetings, strict=True)
        for turn in range(1, len(prompt.turns) + 1)
        for a, b in met
    ]


def _estimate(bench: Bench, given: Sequence[Answer], matches: Sequence[tuple[Answer, Answer]], prompts: judging.Prompts) -> str:
    """What judging would take."""
    if isinstance(bench.judge, RewardJudge):
        return f"{len(given):,} answers to {bench.judge.name}"
    missing = asking.unasked(bench.judge, judging.questions(bench.wording, given, matches, prompts), bench.table)
    return f"would ask {bench.judge.estimate(missing)}" if missing else "nothing would be asked: all of it was judged before"


def _watched(
    bench: Bench, given: Sequence[Answer], matches: Sequence[tuple[Answer, Answer]], prompts: judging.Prompts, watch: Watch
) -> Bench:
    """*bench* with a bar of all it is about to ask."""
    total = len(matches) * 2 or len(given)
    if not isinstance(bench.judge, RewardJudge):
        total = len(asking.unasked(bench.judge, judging.questions(bench.wording, given, matches, prompts), bench.table))
    return Bench(bench.judge, bench.wording, bench.table, bench.say, watch(f"{bench.judge.name} judges", total, 0))


def _table(cache: Path, judge: Judge, say: Callable[[str], None]) -> Table:
    return Table(cache, f"judge-{key_of(judge.identity).removeprefix('sha256:')[:16]}", say)


def _home(who: Sequence[Contestant]) -> Path:
    """Where the result goes by default: the run that all contestants belong to, else ``results/``."""
    runs = {run.path.resolve(): run for one in who if (run := run_of(one.path)) is not None}
    homeless = any(run_of(one.path) is None for one in who)
    return next(iter(runs.values())).evaluations() if len(runs) == 1 and not homeless else Path("results")


def _speaker() -> Callable[[str], None]:
    notes = Console(stderr=True, highlight=False, soft_wrap=True)
    return lambda line: notes.print(line, markup=False)
