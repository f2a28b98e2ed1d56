"""The one training loop: every stage is a thing that can take a step, and this runs, logs, saves and resumes it."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from trainers import checkpointing
from trainers.log import Progress, StageLog
from trainers.optimiser import Optimiser
from trainers.recipe import Optimisation
from trainers.seeds import derive


@dataclass
class StepResult:
    """What a step did: tokens seen, and numbers to log."""

    tokens: int
    numbers: dict[str, float]


class StageLoop(Protocol):
    """A stage as the loop sees it. Its randomness may depend only on the seed and the step's number."""

    name: str
    modules: dict[str, nn.Module]
    optimisers: dict[str, Optimiser]

    @property
    def settings(self) -> Optimisation:
        """Steps, schedule, and how often to save and sample."""

    def begin(self, step: int) -> None:
        """Get ready to take *step* next (0, or where a stopped run goes on)."""

    def step(self, step: int) -> StepResult:
        """Take one step."""

    def samples(self) -> list[dict[str, Any]]:
        """A few prompts with what the model replies now."""

    def evaluate(self) -> dict[str, float]:
        """Numbers on held-out data, at the end."""


class Stopped(Exception):
    """The run was asked to stop and has saved its state."""


@dataclass
class Finished:
    """What a completed stage says for its ``stage.json`` and the report card."""

    steps: int
    tokens: int
    seconds: float
    metrics: dict[str, float] = field(default_factory=dict)


def train(stage: StageLoop, seed: int, log: Path, state: Path, progress: Progress) -> Finished:
    """Run a stage to its last step, going on from the newest saved state.

    The seed of torch's generator is set anew before every step from (seed, stage, step), and data order follows from the same,
    so a resumed run takes bitwise the steps of an uninterrupted one.

    :raises Stopped: on SIGTERM or SIGINT, after the step under way and a save.
    """
    settings = stage.settings
    resumed = checkpointing.resume(stage, state)
    start, counters = resumed or (0, {"tokens": 0, "seconds": 0.0, "log_bytes": 0})
    writer = StageLog(log, counters["log_bytes"])
    if not resumed:
        writer.event("start", stage=stage.name, steps=settings.steps, time=time.time())
    stage.begin(start)
    progress.enter(stage.name, settings.steps)
    began = time.perf_counter() - counters["seconds"]
    recent: list[tuple[float, int]] = []
    with _asked_to_stop() as asked:
        for step in range(start, settings.steps):
            torch.manual_seed(derive(seed, stage.name, step))
            result = stage.step(step)
            counters["tokens"] += result.tokens
            counters["seconds"] = time.perf_counter() - began
            recent = [*recent[-19:], (counters["seconds"], counters["tokens"])]
            speed = (recent[-1][1] - recent[0][1]) / max(1e-9, recent[-1][0] - recent[0][0]) if len(recent) > 1 else 0.0
            done = step + 1
            writer.event(
                "step",
                step=done,
                steps=settings.steps,
                seconds=round(counters["seconds"], 2),
                tokens=counters["tokens"],
                tokens_per_s=round(speed),
                **result.numbers,
            )
            if done % settings.sample_every == 0 or done == settings.steps:
                writer.event("sample", step=done, samples=stage.samples())
            if asked.is_set() or (done % settings.save_every == 0 and done < settings.steps):
                counters["log_bytes"] = writer.size()
                checkpointing.save(stage, done, counters, state)
            progress.at(done, result.numbers)
            if asked.is_set():
                raise Stopped
    metrics = stage.evaluate()
    finished = Finished(settings.steps, counters["tokens"], time.perf_counter() - began, metrics)
    writer.event("end", step=settings.steps, seconds=round(finished.seconds, 2), tokens=finished.tokens, metrics=metrics)
    writer.close()
    return finished


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
