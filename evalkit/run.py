"""One evaluation from start to end: plan, load, measure, write."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit import results
from evalkit.aggregate import reasons
from evalkit.bench import Bench, progress
from evalkit.methods import answer, letters, pairs, perplexity, reward, text
from evalkit.planning import Candidate, Plan, Wanted, plan
from evalkit.types import ChoiceTask, Measured, Sample, Task, TextTask
from modelkit import checkpoint, device
from modelkit.errors import UserError
from modelkit.fingerprint import fingerprint
from modelkit.records import ModelRecord, Result, Speed, TaskScore
from modelkit.run import run_of

MEASURE: dict[str, Callable[[Any, Bench], Measured]] = {
    "letters": letters.measure,
    "perplexity": perplexity.measure,
    "answer": answer.measure,
    "pairs": pairs.measure,
    "reward": reward.measure,
    "text": text.measure,
}


@dataclass(frozen=True)
class Settings:
    """How to run: everything beside what is asked."""

    dtype: str = "fp32"
    device: str | None = None
    chat: bool = False
    seed: int = 0
    log_prompts: bool = False
    out: Path | None = None


@dataclass(frozen=True)
class Evaluated:
    """A finished evaluation and where it lies. ``unsettled`` items are neither scored nor have a reason: there should be none."""

    result: Result
    out: Path
    unsettled: int


def evaluate(path: Path, wanted: Wanted, settings: Settings, say: Callable[[str], None] = lambda line: None) -> Evaluated:
    """Measure a checkpoint and write the result.

    :param say: told, line by line, what is worth knowing (tasks left out, say).
    :raises UserError: for a checkpoint, task, data file or output folder that won't do; nothing is written then.
    """
    checkpoint.check(path)
    dtype = device.dtype_of(settings.dtype)
    where = device.choose_device(settings.device)
    threads = device.set_threads()
    tokenizer = checkpoint.load_tokenizer(path)
    candidate = Candidate(path, checkpoint.is_reward_model(path), tokenizer.chat_template is not None, run_of(path))
    if settings.chat and not candidate.has_chat_template:
        raise UserError(f"--chat needs a chat template, and {path} has none.")
    planned = plan(wanted, candidate)
    for name, reason in planned.left_out.items():
        say(f"left out {name}: {reason}")

    mark = fingerprint(path)
    asked = _asked(wanted, settings, planned)
    identity = results.result_id(path, wanted.tasks, {"fingerprint": mark, "data": [task.data for task in planned.tasks], **asked})
    out = settings.out or (candidate.run.evaluations() if candidate.run else Path("results")) / identity
    results.check_writable(out)

    model = checkpoint.load_model(path, "reward" if candidate.is_reward_model else "language", dtype, where)
    scores: dict[str, TaskScore] = {}
    samples: dict[str, list[Sample]] = {}
    start = time.perf_counter()
    with progress() as watch:
        bench = Bench(path, mark, model, tokenizer, where, dtype, settings.chat, settings.seed, watch)
        for task in planned.tasks:
            scores[task.name], samples[task.name] = _measure(task, bench)
    seconds = time.perf_counter() - start

    stage = checkpoint.read_stage(path)
    everything = [sample for lines in samples.values() for sample in lines]
    result = Result(
        id=identity,
        model=ModelRecord(path=str(path), fingerprint=mark, dtype=settings.dtype, stage=stage.stage if stage else None),
        tasks=scores,
        speed=Speed(
            seconds=seconds,
            questions_per_s=len(everything) / seconds,
            tokens_computed=bench.tokens_computed,
            peak_memory_bytes=results.peak_memory(str(where)),
        ),
        environment=results.environment(threads, str(where)),
        seed=settings.seed,
        settings=asked,
        left_out=planned.left_out,
    )
    results.write(out, result, samples, settings.log_prompts)
    return Evaluated(result, out, sum(not sample.settled for sample in everything))


def _measure(task: Task, bench: Bench) -> tuple[TaskScore, list[Sample]]:
    methods = task.methods if isinstance(task, ChoiceTask) else [task.kind]
    measured = {method: MEASURE[method](task, bench) for method in methods}
    samples = [sample for one in measured.values() for sample in one.samples]
    facts: dict[str, Any] = {name: value for one in measured.values() for name, value in one.facts.items()}
    if isinstance(task, ChoiceTask):
        facts |= {
            "protocol": task.protocol.name,
            "shots": task.shots,
            "shots_used": (measured[methods[0]].score.model_extra or {})["shots_used"],
            "chat": bench.chat,
            "chance": sum(1 / len(item.options) for item in task.items) / len(task.items),
            "data_notes": task.notes,
        }
    else:
        facts["chat"] = not isinstance(task, TextTask)
    score = TaskScore(
        kind=task.kind,
        data=task.data,
        methods={method: one.score for method, one in measured.items()},
        unscored_reasons=reasons(samples),
        **facts,
    )
    return score, samples


def _asked(wanted: Wanted, settings: Settings, planned: Plan) -> dict[str, Any]:
    """The settings that a number depends on."""
    asked = dataclasses.asdict(wanted) | {"dtype": settings.dtype, "device": settings.device, "chat": settings.chat, "seed": settings.seed}
    asked["data"] = str(wanted.data) if wanted.data else None
    asked["measured"] = [task.name for task in planned.tasks]
    return asked
