"""The queue of trainings that were ordered from the page: one at a time, paused, resumed, stopped, found again after a restart.

A job is ``job.json`` beside ``recipe.yaml`` in the folder of the run that it makes. The trainer is a process of its own, so nothing is
lost with the page: the next one finds it at work, or goes on with what was left.
"""

from __future__ import annotations

import fcntl
import itertools
import logging
import re
import shutil
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TextIO

import yaml
from pydantic import BaseModel, ValidationError

from modelkit import atomic
from modelkit.errors import UserError
from playground.training.curves import read_progress
from playground.training.run_process import RunProcess
from trainers.recipe import Recipe

State = Literal["queued", "running", "stopping", "paused", "stopped", "failed", "done"]

RECIPE, NOTE, AGREEMENT, DATA = "recipe.yaml", "job.json", "agreement.jsonl", "data"
"""What a job keeps in its run's folder: what is trained, its own state, what people said before and after, its data."""
LOCK = ".jobs.lock"
MOST_UNFINISHED = 20
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_TICK_SECONDS = 1.0

_log = logging.getLogger(__name__)


class Job(BaseModel):
    """One order. ``base`` is the checkpoint to start from, ``data`` says that the files in the run's ``data`` are trained on.

    ``compared_with`` is the reward model that the new one is compared with on people's votes. ``wanted`` is what its owner asked for last,
    ``failure`` the sentence that it ended with, ``pid`` the process at work on it.
    """

    format: Literal[1] = 1
    name: str
    submitted: float
    base: Path | None = None
    data: bool = False
    strategy: str = "auto"
    processes: int = 1
    compared_with: Path | None = None
    wanted: Literal["run", "pause", "stop"] = "run"
    failure: str | None = None
    pid: int | None = None


@dataclass(frozen=True)
class Standing:
    """Where a job stands; ``place`` is that in the queue, from 1, and ``failure`` the sentence that it ended with."""

    name: str
    state: State
    place: int | None = None
    failure: str | None = None


@dataclass
class _Kept:
    """A job with the process that works, worked or will work on it, and the command that this page has started last."""

    job: Job
    process: RunProcess
    command: list[str] | None = None


@dataclass
class Jobs:
    """All jobs of a folder of runs; safe to use from many threads.

    :param at_once: how many are trained at a time.
    :param trainer: the command of the trainers.
    :param environment: variables that their processes get, such as the votes' store.
    :param others: how many trainings run, now, that are none of these.
    """

    runs: Path
    at_once: int
    trainer: tuple[str, ...] = (sys.executable, "-m", "trainers")
    environment: Mapping[str, str] = field(default_factory=dict)
    others: Callable[[], int] = lambda: 0

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        self._closed = threading.Event()
        self._claimed: TextIO | None = None
        self._kept = {job.name: _Kept(job, RunProcess(self.run(job.name), job.pid)) for job in _read_all(self.runs)}

    def run(self, name: str) -> Path:
        """The folder of a job's run."""
        return self.runs / name

    def claim(self) -> None:
        """Make this the only queue of its folder, until it is closed or its process ends: two would undo each other's work.

        :raises UserError: when another page has it.
        """
        self._claimed = (self.runs / LOCK).open("w")
        try:
            fcntl.flock(self._claimed, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another page takes trainings in {self.runs}: start this one without --training, or stop that one.") from None

    def open(self) -> None:
        """Begin to work the queue off, in the background."""
        threading.Thread(target=self._work, name="jobs", daemon=True).start()

    def close(self) -> None:
        """Stop what is at work where it can go on later; the next page's queue does."""
        self._closed.set()
        with self._lock:
            at_work = [kept.process for kept in self._kept.values() if kept.process.running]
        for process in at_work:  # all of them first, so that they end together
            process.ask_to_stop()
        for process in at_work:
            process.see_out()
        if self._claimed:
            self._claimed.close()

    def ordered(self) -> list[Job]:
        """The jobs, the oldest first."""
        with self._lock:
            return [kept.job for kept in sorted(self._kept.values(), key=lambda kept: kept.job.submitted)]

    def standings(self) -> list[Standing]:
        """Where each job stands, the oldest first, all at one moment."""
        with self._lock:
            waiting = self.waiting()
            places = {name: place for place, name in enumerate(waiting, start=1)}
            kept = [self._kept[job.name] for job in self.ordered()]
            return [Standing(one.job.name, self._state(one), places.get(one.job.name), one.job.failure) for one in kept]

    def state(self, name: str) -> State | None:
        """Where a job stands; ``None`` for a run that is no job's."""
        with self._lock:
            kept = self._kept.get(name)
            return self._state(kept) if kept else None

    def at_work(self, name: str) -> bool:
        """Whether a process works on this job."""
        return self.state(name) in ("running", "stopping")

    def waiting(self) -> list[str]:
        """The jobs in the queue, the next one first."""
        with self._lock:
            return [job.name for job in self.ordered() if self.state(job.name) == "queued"]

    def check_name(self, name: str) -> None:
        """:raises UserError: when a job can't be called so."""
        if not _NAME.fullmatch(name):
            raise UserError("a training is named by up to 40 small letters, digits and hyphens, such as my-first-run: change the name.")
        if self.run(name).exists():
            raise UserError(f"there is a run called {name} already: choose another name.")

    def free_name(self, stem: str) -> str:
        """``stem-1``, or the next number that no run is called by."""
        return next(name for number in itertools.count(1) if not self.run(name := f"{stem}-{number}").exists())

    def submit(self, job: Job, recipe: Recipe, files: Mapping[str, Path]) -> None:
        """Put a job at the end of the queue, with copies of its data *files* by the names that the recipe knows them by.

        :raises UserError: when its name can't be used, too many are unfinished, or the disk takes no more.
        """
        with self._lock:
            self.check_name(job.name)
            unfinished = [name for name in self._kept if self.state(name) not in ("done", "stopped", "failed")]
            if len(unfinished) >= MOST_UNFINISHED:
                raise UserError(f"{len(unfinished)} trainings are unfinished, and there may be no more: wait for one, or stop one.")
            try:
                self._write(job, recipe, files)
            except OSError as error:
                _log.exception("the training %s could not be written", job.name)
                raise UserError(f"the training can't be kept here ({error.strerror}): tell whoever runs this page.") from None
            self._kept[job.name] = _Kept(job, RunProcess(self.run(job.name)))
            self._tick()

    def _write(self, job: Job, recipe: Recipe, files: Mapping[str, Path]) -> None:
        with atomic.directory(self.run(job.name)) as folder:
            text = yaml.safe_dump(recipe.model_dump(mode="json", exclude_defaults=True), sort_keys=False, allow_unicode=True)
            (folder / RECIPE).write_text(text, encoding="utf-8")
            (folder / NOTE).write_text(job.model_dump_json(indent=2) + "\n", encoding="utf-8")
            for name, file in files.items():
                copy = folder / DATA / name
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)

    def pause(self, name: str) -> None:
        """Let a job rest: its trainer ends where it can go on, and the next job's begins."""
        self._want(name, "pause", ("queued", "running"))

    def resume(self, name: str) -> None:
        """Go on with a job that rests or has failed, as soon as it is its turn."""
        self._want(name, "run", ("paused", "failed"))

    def stop(self, name: str) -> None:
        """End a job for good. Its finished checkpoints stay; one that has never begun is forgotten, with its folder."""
        with self._lock:
            self._want(name, "stop", ("queued", "running", "stopping", "paused", "failed"))
            if not self.at_work(name) and not (self.run(name) / "logs").exists():
                del self._kept[name]
                shutil.rmtree(self.run(name))

    def _want(self, name: str, wanted: Literal["run", "pause", "stop"], states: tuple[State, ...]) -> None:
        with self._lock:
            kept = self._kept.get(name)
            if kept is None or self._state(kept) not in states:
                raise UserError("this training has gone on since the page was drawn: look again at where it stands.")
            kept.job.wanted, kept.job.failure = wanted, None
            self._save(kept)
            if wanted != "run":
                kept.process.ask_to_stop()
            self._tick()

    def _work(self) -> None:
        while not self._closed.wait(_TICK_SECONDS):
            try:
                with self._lock:
                    self._tick()
            except OSError:
                _log.exception("the queue of trainings could not go on; it tries again")

    def _tick(self) -> None:
        """Note which processes have ended and which jobs' folders are gone, and begin as many jobs as there is room for."""
        idle = [name for name, kept in self._kept.items() if not kept.process.running]
        for name in idle:
            if not (self.run(name) / NOTE).exists():
                del self._kept[name]
            elif self._kept[name].job.pid is not None:
                self._note_end(self._kept[name])
        room = self.at_once - self.others() - sum(kept.process.running for kept in self._kept.values())
        for name in self.waiting()[: max(0, room)]:
            self._begin(self._kept[name])

    def _begin(self, kept: _Kept) -> None:
        command = self._next_command(kept.job)
        if command is None or self._closed.is_set():
            return
        kept.process, kept.command = RunProcess(self.run(kept.job.name)), command
        kept.process.start(command, self.environment)
        kept.job.pid = kept.process.pid
        self._save(kept)

    def _note_end(self, kept: _Kept) -> None:
        job, progress = kept.job, read_progress(self.run(kept.job.name))
        job.pid = None
        if job.wanted == "run":
            noted = progress.message if progress and progress.state == "failed" else None
            unmoved = "the trainer ended before its work was done." if kept.command == self._next_command(job) else None
            said = kept.process.failure or noted or unmoved
            job.failure = said.replace(f"{self.runs}/", "") if said else None
        self._save(kept)

    def _next_command(self, job: Job) -> list[str] | None:
        """What is to be done next for a job: training, then comparing with people; ``None`` when all is done."""
        run, progress = self.run(job.name), read_progress(self.run(job.name))
        if progress is None or progress.state != "done":
            words = [*self.trainer, "run", str(run / RECIPE), "--out", str(run)]
            words += ["--base", str(job.base)] if job.base else []
            words += ["--data", str(run / DATA)] if job.data else []
            words += ["--strategy", job.strategy] if job.strategy != "auto" else []
            return words + (["--nproc", str(job.processes)] if job.processes > 1 else [])
        if job.compared_with and not (run / AGREEMENT).exists():
            models = ["-m", str(job.compared_with), "-m", str(run / "rm")]
            return [sys.executable, "-m", "leaderboards", "votes", "agreement", *models, "--out", str(run / AGREEMENT)]
        return None

    def _state(self, kept: _Kept) -> State:
        job = kept.job
        if kept.process.running:
            return "running" if job.wanted == "run" else "stopping"
        if self._next_command(job) is None:
            return "done"
        if job.wanted != "run":
            return "paused" if job.wanted == "pause" else "stopped"
        return "failed" if job.failure else "queued"

    def _save(self, kept: _Kept) -> None:
        atomic.write_text(self.run(kept.job.name) / NOTE, kept.job.model_dump_json(indent=2) + "\n")


def _read_all(runs: Path) -> list[Job]:
    """The jobs that earlier pages have left in the folder; a note that can't be read, or names another folder, is left alone."""
    found = []
    for note in sorted(runs.glob(f"*/{NOTE}")):
        try:
            job = Job.model_validate_json(note.read_text(encoding="utf-8"))
        except (OSError, ValidationError, UnicodeDecodeError):
            continue
        if job.name == note.parent.name:
            found.append(job)
    return found
