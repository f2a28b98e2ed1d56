"""The queue of trainings: its states with processes that are only pretended, then with real ones."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from modelkit import atomic
from modelkit.errors import UserError
from playground.models import Models
from playground.training import jobs as queue
from playground.training.curves import read_progress
from playground.training.jobs import Job, Jobs, Standing
from playground.training.run_process import RunProcess
from tests.playground.conftest import wait_until
from trainers.recipe import Mixture, Recipe, RewardStage

NAMES = ("a", "b", "c")


def recipe(name: str = "new") -> Recipe:
    return Recipe(name=name, rm=RewardStage(data=[Mixture(path="pairs.jsonl")], steps=1, lr=1e-3))


def order(jobs: Jobs, name: str, **fields: Any) -> None:
    jobs.submit(Job(name=name, submitted=time.time(), **fields), recipe(name), {})


class Pretended:
    """A process that does what a test tells it to."""

    alive: dict[Path, Pretended] = {}

    def __init__(self, run: Path, pid: int | None = None) -> None:
        self.run, self.pid = run, pid
        self.failure: str | None = None
        self.asked = False

    @property
    def running(self) -> bool:
        return self.pid is not None and self.run in self.alive

    def start(self, command: list[str], environment: dict[str, str]) -> None:
        assert self.run not in self.alive, "two trainers on one run"
        self.pid, self.alive[self.run] = 1, self
        (self.run / "logs").mkdir(exist_ok=True)

    def ask_to_stop(self) -> None:
        self.asked = True

    def see_out(self) -> None:
        self.end("stopped")

    def end(self, state: str, failure: str | None = None) -> None:
        if self.alive.pop(self.run, None):
            atomic.write_json(self.run / "progress.json", {"state": state, "message": failure or ""})
            self.failure = failure


class Queue(RuleBasedStateMachine):
    """Whatever is ordered, paused, stopped, broken and restarted in whatever order."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(self.make_folder())
        Pretended.alive = {}
        self.jobs = self.opened()

    make_folder: Any = None

    def opened(self) -> Jobs:
        return Jobs(self.folder, 1)

    @rule(name=st.sampled_from(NAMES))
    def submit(self, name: str) -> None:
        taken = (self.folder / name).exists()
        try:
            order(self.jobs, name)
            assert not taken
        except UserError:
            assert taken

    @rule(name=st.sampled_from(NAMES), what=st.sampled_from(["pause", "resume", "stop"]))
    def want(self, name: str, what: str) -> None:
        allowed = {
            "pause": ("queued", "running"),
            "resume": ("paused", "failed"),
            "stop": ("queued", "running", "stopping", "paused", "failed"),
        }
        before = self.jobs.state(name)
        try:
            getattr(self.jobs, what)(name)
            assert before in allowed[what]
        except UserError:
            assert before not in allowed[what]

    @precondition(lambda self: bool(Pretended.alive))
    @rule(state=st.sampled_from(["done", "failed", "stopped"]))
    def end(self, state: str) -> None:
        (process,) = Pretended.alive.values()
        wanted = self.jobs._kept[process.run.name].job.wanted
        if state == "stopped" and wanted == "run":
            return
        process.end(state, "it broke." if state == "failed" else None)
        self.jobs._tick()
        said = self.jobs.state(process.run.name)
        assert said == ("done" if state == "done" else {"run": "failed", "pause": "paused", "stop": "stopped"}[wanted])

    @rule()
    def kill_the_page(self) -> None:
        before = {job.name: self.jobs.state(job.name) for job in self.jobs.ordered()}
        self.jobs = self.opened()
        assert {job.name: self.jobs.state(job.name) for job in self.jobs.ordered()} == before

    @rule()
    def close_the_page(self) -> None:
        self.jobs.close()
        assert not Pretended.alive
        self.jobs = self.opened()
        self.jobs._tick()

    @invariant()
    def one_at_a_time_and_none_idle(self) -> None:
        states = [self.jobs.state(job.name) for job in self.jobs.ordered()]
        at_work = [state for state in states if state in ("running", "stopping")]
        assert len(at_work) == len(Pretended.alive) <= 1
        assert at_work or "queued" not in states


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "RunProcess", Pretended)


def test_no_order_of_events_starts_two_trainers_or_forgets_a_job(pretended: None, tmp_path_factory: pytest.TempPathFactory) -> None:
    class Here(Queue):
        make_folder = staticmethod(lambda: str(tmp_path_factory.mktemp("runs")))

    checks = settings(max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(Here, settings=checks)


def test_names_that_are_taken_or_lead_elsewhere_are_refused(pretended: None, tmp_path: Path) -> None:
    jobs = Jobs(tmp_path, 1)
    (tmp_path / "pocket").mkdir()
    for name in ("", "..", "../x", "a/b", "Big", "-x", "x" * 41, "a b", "<b>", "pocket"):
        with pytest.raises(UserError):
            order(jobs, name)
    assert [file.name for file in tmp_path.iterdir()] == ["pocket"]


def test_only_so_many_trainings_may_be_unfinished(pretended: None, tmp_path: Path) -> None:
    jobs = Jobs(tmp_path, 1)
    for number in range(queue.MOST_UNFINISHED):
        order(jobs, f"job-{number}")
    with pytest.raises(UserError, match="unfinished"):
        order(jobs, "one-more")
    assert not (tmp_path / "one-more").exists()


def test_nothing_begins_beside_the_pages_own_training(pretended: None, tmp_path: Path) -> None:
    others = 1
    jobs = Jobs(tmp_path, 1, others=lambda: others)
    order(jobs, "mine")
    assert jobs.waiting() == ["mine"]
    others = 0
    jobs._tick()
    assert jobs.state("mine") == "running"


def test_all_trainings_are_asked_to_stop_before_one_is_waited_for(pretended: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = Jobs(tmp_path, 2)
    order(jobs, "a")
    order(jobs, "b")
    at_work = [Pretended.alive[jobs.run(name)] for name in ("a", "b")]
    asked: list[list[bool]] = []
    monkeypatch.setattr(Pretended, "see_out", lambda self: asked.append([one.asked for one in at_work]))
    jobs.close()
    assert asked == [[True, True], [True, True]]


def test_a_full_disk_takes_no_training_and_says_so(pretended: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = Jobs(tmp_path, 1)
    monkeypatch.setattr(shutil, "copyfile", Mock(side_effect=OSError(errno.ENOSPC, "No space left on device", "/inside")))
    with pytest.raises(UserError, match=r"can't be kept here \(No space left on device\): tell") as refused:
        jobs.submit(Job(name="mine", submitted=0.0), recipe(), {"pairs.jsonl": tmp_path / "pairs.jsonl"})
    assert "/inside" not in str(refused.value)
    assert jobs.ordered() == []
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_runs_has_one_queue(tmp_path: Path) -> None:
    first, second = Jobs(tmp_path, 1), Jobs(tmp_path, 1)
    first.claim()
    with pytest.raises(UserError, match="another page takes trainings"):
        second.claim()
    first.close()
    second.claim()


def test_a_job_whose_folder_the_operator_has_deleted_is_forgotten(pretended: None, tmp_path: Path) -> None:
    jobs = Jobs(tmp_path, 1, others=lambda: 1)
    order(jobs, "mine")
    shutil.rmtree(tmp_path / "mine")
    jobs._tick()
    assert jobs.standings() == []
    assert list(tmp_path.iterdir()) == []


def test_a_failure_names_no_folder_of_the_server(pretended: None, tmp_path: Path) -> None:
    jobs = Jobs(tmp_path, 1)
    order(jobs, "mine")
    Pretended.alive[tmp_path / "mine"].end("failed", f"{tmp_path}/mine/data is empty.")
    jobs._tick()
    assert jobs.standings() == [Standing("mine", "failed", None, "mine/data is empty.")]


def test_a_job_compares_with_people_after_training_and_its_command_says_how_to_train(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path, 1, trainer=("trainers",), others=lambda: 1)
    order(jobs, "mine", base=Path("/models/rm"), data=True, strategy="ddp", processes=2, compared_with=Path("/models/rm"))
    (job,) = jobs.ordered()
    run = tmp_path / "mine"
    options = ["--base", "/models/rm", "--data", str(run / "data"), "--strategy", "ddp", "--nproc", "2"]
    assert jobs._next_command(job) == ["trainers", "run", str(run / "recipe.yaml"), "--out", str(run), *options]
    atomic.write_json(run / "progress.json", {"state": "done"})
    command = jobs._next_command(job)
    assert command is not None
    assert command[2:6] == ["leaderboards", "votes", "agreement", "-m"]
    (run / queue.AGREEMENT).write_text("")
    assert jobs.state("mine") == "done"


@pytest.fixture
def real(tmp_path: Path, fake_trainer: tuple[str, ...]) -> Iterator[Jobs]:
    """A queue that starts processes."""
    jobs = Jobs(tmp_path, 1, trainer=fake_trainer)
    jobs.open()
    yield jobs
    jobs.close()


def test_jobs_are_trained_one_after_the_other_and_their_checkpoints_appear(real: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_SECONDS", "1")
    order(real, "first")
    order(real, "second")
    assert (real.state("first"), real.state("second")) == ("running", "queued")
    wait_until(lambda: real.state("second") == "done")
    assert real.state("first") == "done"
    assert {entry.id.split("/")[0] for entry in Models([real.runs], 1 << 30).catalogue()} == {"first", "second"}
    assert real.ordered()[0].pid is None


def test_a_paused_job_goes_on_where_it_was_and_the_next_one_uses_the_time(real: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_SECONDS", "120")
    order(real, "first")
    order(real, "second")
    wait_until(lambda: read_progress(real.run("first")))
    real.pause("first")
    wait_until(lambda: real.state("second") == "running")
    assert real.state("first") == "paused"
    real.resume("first")
    assert real.state("first") == "queued"
    real.stop("second")
    wait_until(lambda: real.state("first") == "running")
    assert real.state("second") == "stopped"


def test_a_failed_job_says_why_and_can_be_tried_again(real: Jobs) -> None:
    order(real, "broken")
    wait_until(lambda: real.state("broken") == "failed")
    (job,) = real.ordered()
    assert job.failure == "the recipe is broken: mend it."
    (real.run("broken") / "recipe.yaml").write_text("mended")
    real.resume("broken")
    wait_until(lambda: real.state("broken") == "running")


def test_a_page_that_was_killed_leaves_its_trainer_to_the_next_one(
    tmp_path: Path, fake_trainer: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_SECONDS", "120")
    killed = Jobs(tmp_path, 1, trainer=fake_trainer)
    order(killed, "mine")
    wait_until(lambda: read_progress(tmp_path / "mine"))
    found = Jobs(tmp_path, 1, trainer=fake_trainer)
    assert found.state("mine") == "running"
    found.open()
    found.pause("mine")
    killed._kept["mine"].process.stop()  # it is this process's child, whose end only its parent is told
    wait_until(lambda: found.state("mine") == "paused")
    found.close()


def test_a_number_that_another_process_has_got_is_not_taken_for_the_trainer(tmp_path: Path) -> None:
    assert not RunProcess(tmp_path / "mine", os.getpid()).running
    assert not RunProcess(tmp_path / "mine", None).running


def test_a_trainer_that_was_killed_is_a_failure_that_says_so(real: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_SECONDS", "120")
    order(real, "mine")
    (job,) = real.ordered()
    assert job.pid is not None
    os.kill(job.pid, signal.SIGKILL)
    wait_until(lambda: real.state("mine") == "failed")
    assert "status -9" in (real.ordered()[0].failure or "")
