"""Journals → the result: nothing here needs the model, only what was measured and the task it was measured on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from evalkit import results
from evalkit.aggregate import reasons as unscored_reasons
from evalkit.credit import chance, majorities, majority
from evalkit.journal import Entries
from evalkit.methods import method
from evalkit.permutation import robustness, shift_of, unpermuted
from evalkit.preparation import Prepared
from evalkit.statistics import chance_normalised
from evalkit.types import ChoiceTask, Sample, Task, TextTask
from modelkit import checkpoint
from modelkit.records import MethodScore, ModelRecord, Result, Speed, TaskScore

Samples = dict[str, list[Sample]]


def methods_of(task: Task) -> list[str]:
    """The methods that a task is measured with."""
    return list(task.methods) if isinstance(task, ChoiceTask) else [task.kind]


def missing(tasks: Sequence[Task], entries: Entries) -> int:
    """How many answers, and facts about a task as a whole, are not there yet."""
    pairs = [(task, (task.name, name)) for task in tasks for name in methods_of(task)]
    answers = sum(item.id not in entries.samples.get(pair, {}) for task, pair in pairs for item in task.items)
    return answers + sum(pair not in entries.facts for _, pair in pairs)


def unofficial(task: ChoiceTask, name: str, samples: Sequence[Sample], chat: bool) -> list[str]:
    """Why the average over *samples* by method *name* is not the benchmark's own number: fewer questions, or otherwise asked.

    Questions that nobody can score, since their data has a fault, are no reason.
    """
    protocol, missing = task.protocol, task.missing_subjects
    named = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
    unscored = sum(sample.reason is not None and not getattr(sample.item, "fault", "") for sample in samples)
    reasons = {
        f"measured by {name}, not by {' or '.join(protocol.methods)}": name not in protocol.methods,
        f"asked with {task.shots} {'shot' if task.shots == 1 else 'shots'}, not {protocol.shots}": task.shots != protocol.shots,
        "asked through the model's chat template": chat and not protocol.system,
        f"{len(missing)} of its subjects missing ({named})": bool(missing),
        f"{task.left_out:,} of its questions left out by --limit": task.left_out > 0,
        f"{unscored:,} of its questions unscored": unscored > 0,
    }
    return [reason for reason, holds in reasons.items() if holds]


def result(prepared: Prepared, entries: Entries) -> tuple[Result, Samples]:
    """The result and the samples of each task, method by method, in the order of its items."""
    samples: Samples = {}
    scores: dict[str, TaskScore] = {}
    for task in prepared.plan.tasks:
        found = {name: _samples(task, name, entries) for name in methods_of(task)}
        scores[task.name] = _task_score(task, found, entries, prepared)
        samples[task.name] = [sample for own in found.values() for sample in own]
    stage = checkpoint.read_stage(prepared.path)
    made = Result(
        id=prepared.id,
        model=ModelRecord(
            path=prepared.name,
            fingerprint=prepared.fingerprint,
            dtype=prepared.dtype,
            stage=stage.stage if stage else None,
            endpoint=prepared.settings.endpoint.url if prepared.settings.endpoint else None,
        ),
        tasks=scores,
        speed=_speed(entries),
        environment=results.environment(prepared.device),
        seed=prepared.settings.seed,
        settings=prepared.asked,
        left_out=prepared.plan.left_out,
        identity=prepared.digest,
    )
    return made, samples


def _samples(task: Task, name: str, entries: Entries) -> list[Sample]:
    lines = entries.samples[task.name, name]
    return [Sample.from_json(lines[item.id], item) for item in task.items]


def _task_score(task: Task, found: dict[str, list[Sample]], entries: Entries, prepared: Prepared) -> TaskScore:
    facts: dict[str, Any] = {}
    for name in found:
        facts |= entries.facts[task.name, name]
    scores = {name: _score(task, name, samples, prepared.settings.chat) for name, samples in found.items()}
    for name, score in scores.items():
        checks = [check for check in entries.checks if (check["task"], check["method"]) == (task.name, name)]
        if checks:
            score.verified = {"n": sum(check["n"] for check in checks), "max_delta": max(check["max_delta"] for check in checks)}  # type: ignore[attr-defined]
    everything = [sample for samples in found.values() for sample in samples]
    if isinstance(task, ChoiceTask):
        items = [item for item in task.items if shift_of(item.id) == 0]
        facts |= {
            "protocol": task.protocol.name,
            "shots": task.shots,
            "shots_used": (next(iter(scores.values())).model_extra or {})["shots_used"],
            "chat": prepared.settings.chat,
            "chance": chance(items, task.protocol.official),
            "majority": majority(items, task.protocol.official),
            "majority_by_subject": majorities(items, task.protocol.official),
            "average": task.protocol.official,
            "approximate": task.protocol.approximate,
            "data_notes": task.notes,
            "missing_subjects": task.missing_subjects,
            "origin": task.origin,
        }
    else:
        facts["chat"] = not isinstance(task, TextTask)
    return TaskScore(kind=task.kind, data=task.data, methods=scores, unscored_reasons=unscored_reasons(everything), **facts)


def _score(task: Task, name: str, samples: Sequence[Sample], chat: bool) -> MethodScore:
    """The score of the questions as they are; what their permutations tell stands beside it."""
    own = unpermuted(samples)
    score = method(name).score(task, own)
    if isinstance(task, ChoiceTask):
        further = task.protocol.further(own)
        if reasons := unofficial(task, name, own, chat):
            further |= {"official": None, "unofficial": reasons}
        if len(own) < len(samples):
            further["permutation"] = robustness(samples)
        guessing = chance([item for item in task.items if shift_of(item.id) == 0], task.protocol.official)
        if score.value is not None and guessing is not None:
            further["over_chance"] = chance_normalised(score.value, guessing)
        score = score.model_copy(update=further)
    return score


def _speed(entries: Entries) -> Speed:
    """Totals over all processes and their restarts. Processes of one launch worked side by side, others one after another."""
    seconds: dict[str, dict[str, float]] = defaultdict(dict)
    totals: dict[str, float] = defaultdict(float)
    peak = 0.0
    for file, sessions in entries.meters.items():
        seconds[file.partition("-of-")[2]][file] = sum(meter["seconds"] for meter in sessions.values())
        for meter in sessions.values():
            for name in ("tokens_computed", "tokens_reused", "flops"):
                totals[name] += meter[name]
            peak = max(peak, meter["peak_memory_bytes"])
    elapsed = sum(max(files.values()) for files in seconds.values())
    return Speed(
        seconds=elapsed,
        questions_per_s=entries.count() / elapsed if elapsed else 0.0,
        tokens_computed=int(totals["tokens_computed"]),
        tokens_reused=int(totals["tokens_reused"]),
        flops=totals["flops"],
        peak_memory_bytes=int(peak),
    )
