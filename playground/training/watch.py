"""The trainer that the page starts when there is nothing to chat with, and the runs that can be watched."""

from __future__ import annotations

import threading
from pathlib import Path

from playground.models import Models
from playground.settings import Settings
from playground.training.curves import RunWatch, read_progress
from playground.training.jobs import NOTE, Jobs
from playground.training.run_process import RunProcess


class Trainer:
    """Trains ``settings.recipe`` into ``settings.training_run``: resumed, never started twice."""

    def __init__(self, settings: Settings) -> None:
        self.run = settings.training_run
        self._command = [*settings.trainer, "run", str(settings.recipe), "--out", str(self.run)]
        self._process = RunProcess(self.run) if self.run else None
        self._lock = threading.Lock()

    @property
    def log(self) -> Path | None:
        """Where the trainer's own output goes."""
        return self._process.log if self._process else None

    @property
    def running(self) -> bool:
        """Whether our trainer is at work."""
        return self._process is not None and self._process.running

    @property
    def failure(self) -> str | None:
        """The sentence that our trainer ended with, if it failed."""
        return self._process.failure if self._process else None

    def due(self, models: Models) -> bool:
        """Whether there is something to train: an unfinished run of the recipe, or no checkpoint at all. A visitor's training that happens
        to have the run's name is none of ours."""
        if self.run is None or (self.run / NOTE).exists():
            return False
        progress = read_progress(self.run)
        return progress.state != "done" if progress else not models.catalogue()

    def start(self) -> bool:
        """Start or resume the trainer in the background; false where one is at work on this run already."""
        with self._lock:
            if self.run is None or self._process is None or self.running:
                return False
            if (progress := read_progress(self.run)) and progress.alive:
                return False
            self._process.start(self._command)
            return True

    def try_again(self) -> bool:
        """Start a trainer that has failed once more; false where none has. Any visitor may ask for it, and so can't order a training."""
        return self.failure is not None and self.start()

    def stop(self) -> None:
        """Ask our trainer to stop where it can go on later, and wait for it; kill it when it doesn't listen."""
        if self._process is not None:
            self._process.stop()


class Watches:
    """The runs that can be looked at in the page, each followed by one reader."""

    def __init__(self, models: Models, trainer: Trainer, jobs: Jobs | None = None) -> None:
        self._models, self._trainer, self._jobs = models, trainer, jobs
        self._watches: dict[Path, RunWatch] = {}
        self._lock = threading.Lock()

    @property
    def busy(self) -> bool:
        """Whether this page trains anything."""
        jobs = self._jobs
        return self._trainer.running or (jobs is not None and any(jobs.at_work(job.name) for job in jobs.ordered()))

    def names(self) -> list[str]:
        """The runs' directory names; what is being trained comes first."""
        return list(self._paths())

    def of(self, name: str | None) -> RunWatch | None:
        """The run called *name*, or the first where that is not one of them; ``None`` while there is no run."""
        paths = self._paths()
        path = paths.get(name or "") or next(iter(paths.values()), None)
        if path is None:
            return None
        with self._lock:
            if path not in self._watches:
                self._watches[path] = RunWatch(path, lambda: self._at_work(path))
            return self._watches[path]

    def _at_work(self, run: Path) -> bool:
        own = run == self._trainer.run and self._trainer.running
        return own or (self._jobs is not None and self._jobs.at_work(run.name))

    def _paths(self) -> dict[str, Path]:
        own = self._trainer.run
        paths = [own] if own and (own / "logs").is_dir() else []
        ordered = [self._jobs.run(job.name) for job in self._jobs.ordered()] if self._jobs else []
        known = {path.resolve() for path in [*paths, *ordered]}
        paths += [*ordered, *(run.path for run in self._models.runs() if run.path.resolve() not in known)]
        at_work = sorted(paths, key=lambda path: not self._at_work(path))
        return {path.name: path for path in at_work}
