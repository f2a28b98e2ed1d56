"""One evaluation from start to end: prepare, measure what is still to do, write the result when all is measured."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evalkit import assembly, journal, results
from evalkit.bench import Bench, Watch, progress
from evalkit.division import Share, dealt, share_of_environment, units
from evalkit.journal import Journal
from evalkit.methods import Record, method
from evalkit.models import local
from evalkit.models.local import LocalModel
from evalkit.planning import Wanted
from evalkit.preparation import Prepared, Say, Settings, prepare
from evalkit.types import ChoiceTask, Item, Sample, Task
from modelkit import device
from modelkit.records import Result

_CHECKED = 128
_MOST_CHECKED = 8


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation came to: its result in *out*, or ``None`` and how many answers other processes still owe."""

    result: Result | None
    out: Path
    owed: int = 0


def evaluate(model: str | Path, wanted: Wanted, settings: Settings, say: Say = lambda line: None) -> Evaluated:
    """Measure a model and write the result. What an earlier, killed evaluation has measured is not measured again.

    :param say: told, line by line, what is worth knowing (tasks left out, say).
    :raises UserError: for a checkpoint, task, data file or output folder that won't do; nothing is written then.
    """
    prepared = prepare(model, wanted, settings, say)
    return carry_out(prepared, share_of_environment(), say)


def carry_out(prepared: Prepared, share: Share, say: Say) -> Evaluated:
    """Measure this process's share of a prepared evaluation, and merge all shares when nothing is missing any more."""
    finished = results.finished(prepared.out, prepared.digest)
    if finished is not None:
        say(f"{prepared.out} holds this very result already: nothing is measured again.")
        return Evaluated(finished, prepared.out)
    if share.rank == 0:
        for line in journal.others(prepared.out, prepared.identity):
            say(line)
    with Journal(prepared.out, prepared.identity, share, say) as own:
        _Evaluation(prepared, own, share, say).run()
    return merge(prepared)


def merge(prepared: Prepared) -> Evaluated:
    """Put all journals together into the result, if they hold every answer."""
    with journal.merging(prepared.out, prepared.digest):
        result = results.finished(prepared.out, prepared.digest)
        if result is None:
            entries = journal.read(prepared.out, prepared.digest)
            owed = assembly.missing(prepared.plan.tasks, entries)
            if owed:
                return Evaluated(None, prepared.out, owed)
            result, samples = assembly.result(prepared, entries)
            findings = {task.name: task.findings for task in prepared.plan.tasks if isinstance(task, ChoiceTask)}
            results.write(prepared.out, result, samples, prepared.settings.log_prompts, findings)
            result = results.finished(prepared.out, prepared.digest)
        journal.remove(prepared.out, prepared.digest)
    return Evaluated(result, prepared.out)


class _Evaluation:
    """The measuring part. The model is loaded when the first question turns out to be still unanswered."""

    def __init__(self, prepared: Prepared, own: Journal, share: Share, say: Say) -> None:
        self.prepared, self.own, self.share, self.say = prepared, own, share, say
        self.entries = journal.read(prepared.out, prepared.digest)
        self._bench: Bench | None = None
        self._start = time.perf_counter()
        self._aside = 0.0

    def run(self) -> None:
        """Measure every task's part of this process."""
        kept = self.entries.count()
        if kept:
            self.say(f"going on: {kept:,} answers are in {journal.folder_of(self.prepared.out)} already.")
        with progress() as watch:
            for task in self.prepared.plan.tasks:
                self._task(task, watch)

    def _task(self, task: Task, watch: Watch) -> None:
        mine = dealt(units(task.items), self.share)
        names = assembly.methods_of(task)
        todo = {
            name: {item.id for unit in mine for item in unit} - self.entries.samples.get((task.name, name), {}).keys() for name in names
        }
        total = len(names) * sum(map(len, mine))
        advance = watch(task.name, total, total - sum(map(len, todo.values())))
        for name in names:
            fresh: list[Sample] = []

            def keep(samples: Sequence[Sample], fresh: list[Sample] = fresh) -> None:
                self.own.samples(task.name, samples, self.prepared.settings.log_prompts, self._meter())
                fresh.extend(samples)
                advance(len(samples))

            facts: dict[str, Any] | None = None
            for unit in mine:
                left = todo[name] & {item.id for item in unit}
                if left or (facts is None and (task.name, name) not in self.entries.facts):
                    facts = method(name).measure(task, unit, self.bench, Record(left, keep))
            if facts is not None:
                self.own.facts(task.name, name, facts)
            if fresh and not self.prepared.settings.exact and self.prepared.served is None:
                self._check(task, name, fresh)

    @property
    def bench(self) -> Bench:
        """The workbench, with the weights loaded where no endpoint has them."""
        if self._bench is None:
            prepared = self.prepared
            model = prepared.served or _loaded(prepared)
            self._bench = Bench(prepared.path, prepared.fingerprint, model, prepared.settings.chat, prepared.settings.seed)
            self._start = time.perf_counter()
        return self._bench

    def _check(self, task: Task, name: str, samples: Sequence[Sample]) -> None:
        """Score a few questions again, each alone and from its first token on, and keep the largest difference."""
        scored = {sample.item.id: sample for sample in samples if sample.scores}
        if not scored:
            return
        began = time.perf_counter()
        chosen = random.Random(self.prepared.settings.seed).sample(sorted(scored), min(_MOST_CHECKED, -(-len(scored) // _CHECKED)))
        again: dict[str, dict[str, float]] = {}
        items: list[Item] = [scored[id].item for id in chosen]
        alone = replace(self.bench, loaded=self.bench.model.alone())
        record = Record(set(chosen), lambda found: again.update((one.item.id, one.scores) for one in found if one.scores))
        method(name).measure(task, items, alone, record)
        deltas = [abs(value - again[id][letter]) for id in again for letter, value in (scored[id].scores or {}).items()]
        if deltas:
            self.own.check(task.name, name, len(again), max(deltas))
        self._aside += time.perf_counter() - began

    def _meter(self) -> dict[str, float]:
        """What this process has done so far; loading and re-scoring don't count."""
        model = self.bench.loaded
        return {
            "seconds": time.perf_counter() - self._start - self._aside,
            "tokens_computed": model.tokens_computed,
            "tokens_reused": model.tokens_reused,
            "flops": model.flops,
            "peak_memory_bytes": results.peak_memory(self.prepared.device),
        }


def _loaded(prepared: Prepared) -> LocalModel:
    """The model's weights in memory."""
    where, dtype = device.choose_device(prepared.device), device.dtype_of(prepared.dtype)
    device.set_threads()
    model = local.load(prepared.path, "reward" if prepared.is_reward_model else "language", dtype, where, prepared.settings.exact)
    model.batch_tokens = prepared.settings.batch_tokens or model.batch_tokens
    return model
