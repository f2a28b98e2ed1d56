"""What a run says while it works: one JSONL log per stage, and ``progress.json`` for whoever watches."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modelkit import atomic

Watcher = Callable[["Progress"], None]


class StageLog:
    """Appends events to ``logs/<stage>.jsonl``, each line flushed whole; without a path (other ranks than the first), to nothing."""

    def __init__(self, path: Path | None, keep_bytes: int = 0) -> None:
        path = path or Path(os.devnull)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = path.open("ab")
        if self._file.tell() > keep_bytes:
            self._file.truncate(keep_bytes)
            self._file.seek(keep_bytes)

    def event(self, event: str, **fields: Any) -> None:
        """Write one line."""
        line = json.dumps({"event": event, **{key: _short(value) for key, value in fields.items()}}, ensure_ascii=False)
        self._file.write(line.encode() + b"\n")
        self._file.flush()

    def size(self) -> int:
        """Bytes written so far: what a resumed run keeps."""
        return self._file.tell()

    def close(self) -> None:
        self._file.close()


class Progress:
    """The state of a whole run, rewritten to ``progress.json`` about once a second (by the first rank, which gets *run*)."""

    def __init__(self, run: Path | None, stages: list[str], shares: dict[str, float], watcher: Watcher = lambda progress: None) -> None:
        self.stages, self.stage, self.step, self.steps = stages, stages[0], 0, 0
        self.state, self.message = "running", ""
        self.numbers: dict[str, float] = {}
        self._run, self._shares, self._watcher = run, shares, watcher
        self._started, self._written = time.time(), 0.0
        self._start_fraction: float | None = None

    def enter(self, stage: str, steps: int = 1) -> None:
        """A stage begins (or goes on)."""
        self.stage, self.step, self.steps, self.numbers = stage, 0, steps, {}
        self._write(force=True)

    def at(self, step: int, numbers: dict[str, float] | None = None) -> None:
        """*step* steps of the current stage are done."""
        self.step, self.numbers = step, numbers or {}
        self._write(force=step == self.steps)

    def beat(self) -> None:
        """Still at work: keeps ``progress.json`` fresh while something takes long without steps."""
        self._write()

    def finish(self, state: str, message: str = "") -> None:
        """The run is over: done, failed or stopped."""
        self.state, self.message = state, message
        self._write(force=True)

    def fraction(self) -> float:
        """Share of the whole run's expected work that is done, 0…1."""
        if self.state == "done":
            return 1.0
        total = sum(self._shares.values())
        before = sum(self._shares[stage] for stage in self.stages[: self.stages.index(self.stage)])
        return (before + self._shares[self.stage] * min(1.0, self.step / max(1, self.steps))) / total

    def eta_seconds(self) -> float | None:
        """Time left by the work done so far in this process; ``None`` when too little was done to tell."""
        if self.state != "running" or self._start_fraction is None:
            return None
        done, elapsed = self.fraction() - self._start_fraction, time.time() - self._started
        return elapsed * (1 - self.fraction()) / done if done > 0.01 else None

    def _write(self, force: bool = False) -> None:
        now = time.time()
        if self._start_fraction is None:
            self._start_fraction = self.fraction()
        self._watcher(self)
        if self._run is None or (not force and now - self._written < 1.0):
            return
        self._written = now
        eta = self.eta_seconds()
        atomic.write_json(
            self._run / "progress.json",
            {
                "format": 1,
                "state": self.state,
                "stage": self.stage,
                "stages": self.stages,
                "step": self.step,
                "steps": self.steps,
                "fraction": round(self.fraction(), 4),
                "seconds": round(now - self._started, 1),
                "eta_seconds": None if eta is None else round(eta, 1),
                "pid": os.getpid(),
                "time": now,
                "message": self.message,
            },
        )


def _short(value: Any) -> Any:
    """Floats to six significant digits: a log is for reading. JSON has no NaN, which becomes null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, float):
        return float(f"{value:.6g}") if abs(value) < 1e6 else round(value, 2)
    if isinstance(value, dict):
        return {key: _short(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_short(entry) for entry in value]
    return value
