"""The trainer that the page starts when there is nothing to chat with: a process of its own, resumed, never started twice."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from pathlib import Path

from playground.curves import RunWatch, read_progress
from playground.models import Models
from playground.settings import Settings

_NICENESS = 5
_STOP_SECONDS = 15.0


class Trainer:
    """Trains ``settings.recipe`` into ``settings.training_run``. ``failure`` is the sentence it ended with, if it failed."""

    def __init__(self, settings: Settings) -> None:
        self.run = settings.training_run
        self.failure: str | None = None
        self._command = [*settings.trainer, "run", str(settings.recipe), "--out", str(self.run)]
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = False
        self._lock = threading.Lock()

    @property
    def log(self) -> Path | None:
        """Where the trainer's own output goes."""
        return self.run / "logs" / "trainer.log" if self.run else None

    @property
    def running(self) -> bool:
        """Whether our trainer is at work."""
        return self._process is not None and self._process.poll() is None

    def due(self, models: Models) -> bool:
        """Whether there is something to train: an unfinished run of the recipe, or no checkpoint at all."""
        if self.run is None:
            return False
        progress = read_progress(self.run)
        return progress.state != "done" if progress else not models.catalogue()

    def start(self) -> bool:
        """Start or resume the trainer in the background; false where one is at work on this run already."""
        with self._lock:
            if self.run is None or self.log is None or self.running or ((progress := read_progress(self.run)) and progress.alive):
                return False
            self.failure = None
            self.log.parent.mkdir(parents=True, exist_ok=True)
            with self.log.open("wb") as output:
                self._process = subprocess.Popen(
                    self._command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
                )
            os.setpriority(os.PRIO_PROCESS, self._process.pid, _NICENESS)
            threading.Thread(target=self._wait, args=(self._process,), name="trainer", daemon=True).start()
            return True

    def stop(self) -> None:
        """Ask our trainer to stop where it can go on later, and wait for it; kill it when it doesn't listen."""
        self._stopping = True
        process = self._process
        if process is None or process.poll() is not None:
            return
        try:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        except ProcessLookupError:
            pass

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        status = process.wait()
        if status and not self._stopping:
            self.failure = self._last_words(status)

    def _last_words(self, status: int) -> str:
        """The sentence the trainer printed when it gave up."""
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log else ""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        said = next((line.removeprefix("error: ") for line in reversed(lines) if line.startswith("error: ")), None)
        progress = read_progress(self.run) if self.run else None
        noted = progress.message if progress and progress.state == "failed" else None
        return said or noted or f"the trainer ended with status {status}; its last words are in the run's logs/trainer.log."


class Watches:
    """The runs that can be looked at in the page, each followed by one reader."""

    def __init__(self, models: Models, trainer: Trainer) -> None:
        self._models, self._trainer = models, trainer
        self._watches: dict[Path, RunWatch] = {}
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """The runs' directory names; the one being trained comes first."""
        return list(self._paths())

    def of(self, name: str | None) -> RunWatch | None:
        """The run called *name*, or the first where that is not one of them; ``None`` while there is no run."""
        paths = self._paths()
        path = paths.get(name or "") or next(iter(paths.values()), None)
        if path is None:
            return None
        with self._lock:
            if path not in self._watches:
                own = path == self._trainer.run
                self._watches[path] = RunWatch(path, lambda: own and self._trainer.running)
            return self._watches[path]

    def _paths(self) -> dict[str, Path]:
        own = self._trainer.run
        paths = [own] if own and (own / "logs").is_dir() else []
        paths += [run.path for run in self._models.runs() if run.path.resolve() not in {path.resolve() for path in paths}]
        return {path.name: path for path in paths}
