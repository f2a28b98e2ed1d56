"""Following a run that is being trained: its progress, its logs as curves and sample replies, its report card."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

CURVES = ("loss", "accuracy", "reward", "kl", "length")
"""The logged numbers that the page plots."""
ALIVE_SECONDS = 30.0
_POLL_SECONDS = 1.0
_TAIL = 64

Point = tuple[int, float]


class Progress(BaseModel):
    """``progress.json``, which the trainer rewrites about once a second. ``fraction`` is of the whole run."""

    state: Literal["running", "done", "failed", "stopped"]
    stage: str = ""
    stages: list[str] = []
    step: int = 0
    steps: int = 0
    fraction: float = 0.0
    seconds: float = 0.0
    eta_seconds: float | None = None
    pid: int = 0
    time: float = 0.0
    message: str = ""

    @property
    def alive(self) -> bool:
        """Whether a trainer is at work: it says so, has said so lately, and its process exists."""
        if self.state != "running" or time.time() - self.time > ALIVE_SECONDS or self.pid <= 0:
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True


def read_progress(run: Path) -> Progress | None:
    """The run's progress, or ``None`` where no trainer has left one that can be read."""
    try:
        return Progress.model_validate_json((run / "progress.json").read_text(encoding="utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError):
        return None


@dataclass(frozen=True)
class Sample:
    """What the model of a stage replied to a prompt when it had come to *step*."""

    stage: str
    step: int
    prompt: str
    reply: str
    reward: float | None


@dataclass
class StageLog:
    """What has been read of one stage's log. ``seconds`` it has worked; ``skipped`` counts lines that are no JSON object."""

    stage: str
    points: dict[str, list[Point]] = field(default_factory=dict)
    samples: list[list[Sample]] = field(default_factory=list)
    seconds: float = 0.0
    skipped: int = 0

    def add(self, event: dict[str, Any]) -> None:
        """Take in one line. A step that comes again, after a resume, replaces what followed its first coming."""
        if isinstance(seconds := event.get("seconds"), (int, float)):
            self.seconds = float(seconds)
        step = event.get("step")
        if not isinstance(step, int):
            return
        if event.get("event") == "step":
            for curve in CURVES:
                if isinstance(value := event.get(curve), (int, float)):
                    points = self.points.setdefault(curve, [])
                    while points and points[-1][0] >= step:
                        points.pop()
                    points.append((step, float(value)))
        elif event.get("event") == "sample":
            while self.samples and self.samples[-1][0].step >= step:
                self.samples.pop()
            found = [
                Sample(self.stage, step, str(sample.get("prompt", "")), str(sample.get("reply", "")), sample.get("reward"))
                for sample in event.get("samples", [])
            ]
            if found:
                self.samples.append(found)


class LogReader:
    """Reads a growing JSONL file piece by piece: only what is new, never half a line, from the start when it was rewritten."""

    def __init__(self, path: Path) -> None:
        self.log = StageLog(path.stem)
        self._path = path
        self._offset = 0
        self._tail = b""

    def poll(self) -> None:
        """Take in what was written since the last call."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset - len(self._tail))
                if file.read(len(self._tail)) != self._tail:
                    self.log = StageLog(self._path.stem)
                    self._offset, self._tail = 0, b""
                    file.seek(0)
                new = file.read()
        except FileNotFoundError:
            return
        whole = new[: new.rfind(b"\n") + 1]
        self._offset += len(whole)
        self._tail = (self._tail + whole)[-_TAIL:]
        for line in whole.splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                event = None
            if isinstance(event, dict):
                self.log.add(event)
            elif line.strip():
                self.log.skipped += 1


def thinned(points: list[Point], most: int = 160) -> list[Point]:
    """At most *most* points: the means over stretches of equal length, each at its last step."""
    points = list(points)
    if len(points) <= most:
        return points
    width = -(-len(points) // most)
    pieces = [points[i : i + width] for i in range(0, len(points), width)]
    return [(piece[-1][0], sum(value for _, value in piece) / len(piece)) for piece in pieces]


class RunWatch:
    """One run as it is being trained (or was), shared by all visitors: the disk is asked at most once a second.

    *at_work* knows a trainer that this process has started, which may be silent for longer than a stranger's.
    """

    def __init__(self, run: Path, at_work: Callable[[], bool] = lambda: False) -> None:
        self.run = run
        self._at_work = at_work
        self.progress: Progress | None = None
        self.alive = False
        self.report: str | None = None
        self._readers: dict[str, LogReader] = {}
        self._lock = threading.Lock()
        self._polled = float("-inf")

    @property
    def logs(self) -> dict[str, StageLog]:
        """What was read of each stage's log, in the order the stages are trained."""
        order = self.progress.stages if self.progress else []
        found = sorted(self._readers, key=lambda stage: order.index(stage) if stage in order else len(order))
        return {stage: self._readers[stage].log for stage in found}

    def poll(self) -> None:
        """Read what is new."""
        with self._lock:
            if time.monotonic() - self._polled < _POLL_SECONDS:
                return
            self._polled = time.monotonic()
            for file in sorted((self.run / "logs").glob("*.jsonl")):
                self._readers.setdefault(file.stem, LogReader(file))
            for reader in self._readers.values():
                reader.poll()
            self.progress, self.report = read_progress(self.run), _text(self.run / "report.md")
            running = self.progress is not None and self.progress.state == "running"
            self.alive = running and (self._at_work() or (self.progress is not None and self.progress.alive))


def _text(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
