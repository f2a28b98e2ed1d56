"""The one training loop: every stage is a thing that can take a step, and this runs, logs, saves and resumes it."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from modelkit.device import dtype_of
from modelkit.errors import UserError
from modelkit.linear import fast_linear
from trainers import checkpointing
from trainers.log import Progress, StageLog
from trainers.optimiser import Optimiser
from trainers.recipe import Optimisation
from trainers.seeds import derive
from trainers.strategies import Strategy


@dataclass
class StepResult:
    """What a step did: tokens seen, numbers to log, and which rows of the stage's data it used."""

    tokens: int
    numbers: dict[str, float]
    rows: Sequence[int] = ()


class StageLoop(Protocol):
    """A stage as the loop sees it. Its randomness may depend only on the seed and the step's number."""

    name: str
    modules: dict[str, nn.Module]
    optimisers: dict[str, Optimiser]
    strategy: Strategy

    @property
    def settings(self) -> Optimisation:
        """Steps, schedule, and how often to save, sample and evaluate."""

    def begin(self, step: int) -> None:
        """Get ready to take *step* next (0, or where a stopped run goes on)."""

    def step(self, step: int) -> StepResult:
        """Take one step."""

    def samples(self) -> list[dict[str, Any]]:
        """A few prompts with what the model replies now."""

    def evaluate(self) -> dict[str, float]:
        """Numbers on held-out data; ``eval_loss``, or else ``eval_reward``, decides which weights are the best."""


class Stopped(Exception):
    """The run was asked to stop and has saved its state."""


@dataclass
class Finished:
    """What a completed stage says for its ``stage.json`` and the report card."""

    steps: int
    tokens: int
    seconds: float
    metrics: dict[str, float] = field(default_factory=dict)


def train(stage: StageLoop, seed: int, log: Path, state: Path, progress: Progress, places: Sequence[str] = ()) -> Finished:
    """Run a stage to its last step, going on from the newest saved state.

    The seed of torch's generator is set anew before every step from (seed, stage, step), and data order follows from the same,
    so a resumed run takes bitwise the steps of an uninterrupted one. A step whose gradient isn't finite changes nothing and is
    logged with the rows it used: their *places* (``places[i]`` that of the stage's training row *i*), or else their positions.

    :raises Stopped: on SIGTERM or SIGINT, after the step under way and a save.
    :raises UserError: after ``max_skipped`` updates in a row that were not finite, or for ``keep_best`` without held-out data.
    """
    settings, strategy = stage.settings, stage.strategy
    resumed = checkpointing.resume(stage, state)
    start, counters = resumed or (0, {"tokens": 0, "seconds": 0.0, "log_bytes": 0, "best_loss": None, "best_step": 0, "stale": 0})
    writer = StageLog(log if strategy.rank == 0 else None, counters["log_bytes"])
    if not resumed:
        writer.event("start", stage=stage.name, steps=settings.steps, time=time.time())
    stage.begin(start)
    progress.enter(stage.name, settings.steps)
    if not resumed and settings.eval_every:
        _compare(stage, 0, counters, writer, state)
    began = time.perf_counter() - counters["seconds"]
    recent: list[tuple[float, int]] = []
    done = start
    with _asked_to_stop() as asked:
        while done < settings.steps and not (settings.early_stop and counters["stale"] >= settings.early_stop):
            torch.manual_seed(derive(seed, stage.name, done))
            skipped = _skipped(stage)
            with computing_in(settings.dtype, strategy.device):
                result = stage.step(done)
            done += 1
            counters["tokens"] += result.tokens
            counters["seconds"] = time.perf_counter() - began
            recent = [*recent[-19:], (counters["seconds"], counters["tokens"])]
            speed = (recent[-1][1] - recent[0][1]) / max(1e-9, recent[-1][0] - recent[0][0]) if len(recent) > 1 else 0.0
            writer.event(
                "step",
                step=done,
                steps=settings.steps,
                seconds=round(counters["seconds"], 2),
                tokens=counters["tokens"],
                tokens_per_s=round(speed),
                **result.numbers,
            )
            if _skipped(stage) > skipped:
                used = [places[i] for i in result.rows] if places else list(result.rows)
                writer.event("skipped", step=done, updates=_skipped(stage) - skipped, rows=used)
                _give_up(stage, used)
            if done % settings.sample_every == 0 or done == settings.steps:
                writer.event("sample", step=done, samples=stage.samples())
            if settings.eval_every and (done % settings.eval_every == 0 or done == settings.steps):
                _compare(stage, done, counters, writer, state)
            stop = strategy.sum([float(asked.is_set())])[0] > 0
            if stop or (done % settings.save_every == 0 and done < settings.steps):
                counters["log_bytes"] = writer.size()
                checkpointing.save(stage, done, counters, state)
            progress.at(done, result.numbers)
            if stop:
                raise Stopped
    best = {}
    if settings.keep_best:
        best = {"best_step": float(counters["best_step"])}
        if counters["best_step"] != done:
            checkpointing.load_best(stage, state)
    with computing_in(settings.dtype, strategy.device):
        metrics = {**stage.evaluate(), **best}
    finished = Finished(done, counters["tokens"], time.perf_counter() - began, metrics)
    writer.event("end", step=done, seconds=round(finished.seconds, 2), tokens=finished.tokens, metrics=metrics)
    writer.close()
    return finished


def _compare(stage: StageLoop, step: int, counters: dict[str, Any], writer: StageLog, state: Path) -> None:
    """Evaluate; note in *counters* whether the loss is the lowest (or the reward the highest) so far, and keep the weights if so.

    One that isn't finite is worse than any other.
    """
    settings = stage.settings
    with computing_in(settings.dtype, stage.strategy.device):
        metrics = stage.evaluate()
    writer.event("eval", step=step, metrics=metrics)
    loss = metrics["eval_loss"] if "eval_loss" in metrics else -metrics["eval_reward"] if "eval_reward" in metrics else None
    if loss is None:
        if settings.keep_best or settings.early_stop:
            raise UserError(
                f"{stage.name} has no held-out data to tell its best weights by: set held_out, or leave keep_best and early_stop."
            )
        return
    loss = loss if math.isfinite(loss) else math.inf
    if counters["best_loss"] is None or loss < counters["best_loss"]:
        counters.update(best_loss=loss, best_step=step, stale=0)
        if settings.keep_best:
            checkpointing.save_best(stage, step, state)
    else:
        counters["stale"] += 1


def _skipped(stage: StageLoop) -> int:
    """Updates left out so far because their gradient wasn't finite."""
    return sum(optimiser.skipped_in_all for optimiser in stage.optimisers.values())


def _give_up(stage: StageLoop, rows: Sequence[int | str]) -> None:
    most = max(optimiser.skipped for optimiser in stage.optimisers.values())
    if most >= stage.settings.max_skipped:
        raise UserError(
            f"the gradient of {stage.name} was not finite in {most} updates in a row, the last on rows "
            f"{', '.join(map(str, list(rows)[:8]))}{' …' if len(rows) > 8 else ''}: lower the learning rate, or look at these rows."
        )


def computing_in(dtype: str, device: torch.device) -> AbstractContextManager[object]:
    """Matrix products in *dtype*; weights, losses and updates stay fp32."""
    if dtype == "fp32":
        return fast_linear(device, torch.float32)
    # a cache of cast weights would outlive the updates that are made inside a step
    return torch.autocast(device.type, dtype_of(dtype), cache_enabled=False)


@contextmanager
def _asked_to_stop() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set, while the block runs in the main thread."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.signal(number, lambda *_: asked.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
