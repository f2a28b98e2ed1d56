"""What was asked for → tasks, read and checked, before any weights are loaded."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from evalkit.tasks import yaml_task
from evalkit.tasks.folders import near
from evalkit.types import ChoiceTask, Item, Question, Task
from modelkit.errors import UserError
from modelkit.run import Run

BENCHMARKS = {
    "mmlu": {
        "hendrycks": "57 subjects in English, 14,042 test questions, as the authors ask them",
        "lm-eval": "the same as lm-evaluation-harness asks them",
        "helm": "the same as HELM asks them: generates",
    },
    "cmmlu": {
        "official": "67 subjects in Chinese, 11,582 test questions, as the authors ask them",
        "lm-eval": "the same as lm-evaluation-harness asks them",
        "official-cot": "the same with the authors' chain of thought",
    },
    "ceval": {
        "official": "52 subjects in Chinese, 1,346 val questions (--split test: 12,342 without answers), as the authors ask them",
        "lm-eval": "the same as lm-evaluation-harness asks them",
        "official-cot": "the same with the authors' chain of thought",
    },
    "agieval": {
        "official": "exams in English and Chinese, up to 21 tasks, with --shots 5 or without shots: generates",
        "official-cot": "the same with thoughts: shots that explain themselves, or an answer behind the model's own",
    },
    "gaokao": {"official": "14 objective papers of the Chinese college entrance exam, points as in the exam: generates"},
}
"""Benchmark → protocol → what it asks; the first protocol is the default. Each benchmark has a module in evalkit.tasks with
``PROTOCOLS`` and a function ``load(data, shots, methods, protocol, split)``."""

CHOICE_METHODS = ("letters", "perplexity", "generate")


@dataclass(frozen=True)
class Candidate:
    """The model to measure: what is known of it before its weights are loaded. One that is served has none here."""

    path: Path
    is_reward_model: bool
    has_chat_template: bool
    run: Run | None
    is_served: bool = False


@dataclass(frozen=True)
class Wanted:
    """What the command line asks for."""

    tasks: Sequence[str]
    data: Path | None = None
    shots: int | None = None
    methods: Sequence[str] | None = None
    subjects: Sequence[str] | None = None
    limit: int | None = None
    split: str | None = None


@dataclass
class Plan:
    """The tasks to measure, and those of a suite that don't fit the checkpoint, with the reason."""

    tasks: list[Task] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def plan(wanted: Wanted, candidate: Candidate) -> Plan:
    """Resolve and read every task asked for.

    A task that doesn't fit the checkpoint is left out when its whole suite was asked for.

    :raises UserError: when it was asked for by name, when a name means nothing, or when nothing is left to measure.
    """
    for method in wanted.methods or ():
        if method not in CHOICE_METHODS:
            raise UserError(f"{method!r} is no method{near(method, CHOICE_METHODS)}: use {', '.join(CHOICE_METHODS)}.")
    made = Plan()
    for name in wanted.tasks:
        if name.partition("@")[0] in BENCHMARKS:
            made.tasks.append(_benchmark(name, wanted, candidate))
        else:
            _add_suite(made, name, wanted, candidate)
    if not made.tasks:
        raise UserError("no task fits this checkpoint: " + "; ".join(f"{name}: {reason}" for name, reason in made.left_out.items()) + ".")
    once: dict[str, Task] = {}
    for task in made.tasks:
        if once.setdefault(task.name, task) != task:
            raise UserError(f"two different tasks are called {task.name}: give one another name in its task.yaml, or measure it apart.")
    made.tasks = [narrowed(task, wanted.subjects, wanted.limit) for task in once.values()]
    return made


def narrowed(task: Task, subjects: Sequence[str] | None, limit: int | None) -> Task:
    """The task with only the items of *subjects*, and of those at most *limit*, taken from all subjects in turn.

    Questions that one prompt asks together stay together.

    :raises UserError: when the task has none of *subjects*, naming the first it lacks, or when nothing is left.
    """
    items: list[Item] = list(task.items)
    if subjects is not None:
        known = sorted({item.subject for item in items})
        for subject in subjects:
            if subject not in known:
                raise UserError(f"{task.name} has no subject {subject!r}{near(subject, known)}: it has {', '.join(known)}.")
        items = [item for item in items if item.subject in subjects]
    if limit is not None and limit < len(items):
        rows: dict[tuple[str, str], list[int]] = {}
        for index, item in enumerate(items):
            row = item.id.rpartition("/")[2].partition(".")[0] if isinstance(item, Question) and item.parts > 1 else item.id
            rows.setdefault((item.subject, row), []).append(index)
        kept: list[int] = []
        for places in _in_turn(rows):
            kept += places if len(kept) + len(places) <= limit else []
        if not kept:
            raise UserError(
                f"--limit {limit} leaves nothing of {task.name}, whose prompts ask up to {max(map(len, rows.values()))} questions."
            )
        left_out = {"left_out": len(items) - len(kept)} if isinstance(task, ChoiceTask) else {}
        return dataclasses.replace(task, items=[items[index] for index in sorted(kept)], **left_out)  # type: ignore[arg-type]
    return dataclasses.replace(task, items=items)  # type: ignore[arg-type]


def _in_turn(rows: dict[tuple[str, str], list[int]]) -> list[list[int]]:
    """The first row of every subject, then the second, and so on."""
    turn: dict[str, int] = {}
    turns = []
    for (subject, _), places in rows.items():
        turn[subject] = turn.get(subject, -1) + 1
        turns.append((turn[subject], places))
    return [places for _, places in sorted(turns)]


def _benchmark(name: str, wanted: Wanted, candidate: Candidate) -> Task:
    benchmark, _, protocol = name.partition("@")
    known = list(BENCHMARKS[benchmark])
    protocol = protocol or known[0]
    if protocol not in known:
        names = ", ".join(f"{benchmark}@{each}" for each in known)
        raise UserError(f"{benchmark} has no protocol {protocol!r}{near(protocol, known)}: use {names}.")
    if candidate.is_reward_model:
        raise UserError(f"{name} asks a language model, but {candidate.path} is a reward model.")
    if wanted.split and benchmark != "ceval":
        raise UserError(f"{benchmark} is asked on its one split with public answers: leave --split out.")
    module = importlib.import_module(f"evalkit.tasks.{benchmark}")
    for method in wanted.methods or ():
        if method not in (allowed := module.PROTOCOLS[protocol].allows):
            raise UserError(f"{benchmark}@{protocol} can't be measured by {method}: use --method {' or '.join(allowed)}.")
    task: Task = module.load(wanted.data, wanted.shots, wanted.methods, protocol, wanted.split)
    return task


def _add_suite(made: Plan, name: str, wanted: Wanted, candidate: Candidate) -> None:
    """Add a suite's tasks, or the one asked for, to the plan."""
    folder, parts, whole = _suite_of(name, candidate.run)
    suite = yaml_task.read_suite(folder)
    checkpoints = candidate.run.path if candidate.run and folder.resolve().is_relative_to(candidate.run.path.resolve()) else folder
    for part in parts or suite.tasks:
        if part not in suite.tasks:
            raise UserError(f"the suite {suite.name} has no task {part!r}{near(part, list(suite.tasks))}: it has {', '.join(suite.tasks)}.")
        reason = _why_not(suite.tasks[part], checkpoints, candidate)
        if reason and not whole:
            raise UserError(f"{suite.name}.{part} can't be measured here: {reason}.")
        if reason:
            made.left_out[f"{suite.name}.{part}"] = reason
        else:
            made.tasks.append(yaml_task.load(folder, suite, part, checkpoints, wanted.shots, wanted.methods))


def _suite_of(name: str, run: Run | None) -> tuple[Path, list[str], bool]:
    """(folder of the task.yaml, parts asked for or none for all, whether leaving parts out is fine)."""
    if (Path(name) / "task.yaml").is_file():
        return Path(name), [], True
    if run is not None and (run.benchmark() / "task.yaml").is_file():
        suite, _, part = name.partition(".")
        if yaml_task.read_suite(run.benchmark()).name == suite:
            return run.benchmark(), [part] if part else [], not part
    if Path(name).is_dir():
        raise UserError(f"{name} holds no task.yaml, so it is no task.")
    raise UserError(
        f"{name!r} is no task{near(name.partition('@')[0], list(BENCHMARKS))}: `evalkit tasks` lists the benchmarks; the suite of a run is "
        "known by its name when the checkpoint lies in that run; any folder with a task.yaml can be given by its path."
    )


def _why_not(spec: yaml_task.Spec, checkpoints: Path, candidate: Candidate) -> str | None:
    """Why a task can't be measured on this checkpoint, or ``None``."""
    if candidate.is_served and spec.kind not in ("choice", "answer"):
        return "it needs the model's weights, and an endpoint has none to give"
    if (spec.kind == "pairs") != candidate.is_reward_model:
        return "it is for reward models" if spec.kind == "pairs" else f"{candidate.path.name} is a reward model"
    if spec.kind in ("answer", "reward") and not candidate.has_chat_template:
        return f"{candidate.path.name} {'offers no chat' if candidate.is_served else 'has no chat template'}"
    if isinstance(spec, yaml_task.RewardSpec):
        for name in (spec.reward_model, spec.reference):
            if not (checkpoints / name / "config.json").is_file():
                return f"{checkpoints / name} is not there yet"
    return None
