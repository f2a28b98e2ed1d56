"""The training tab as it is served, with a trainer that only pretends: the form, the queue, the votes, over HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from leaderboards.votes.store import Store
from playground.leaderboard import LiveBoard
from playground.models import Models
from playground.settings import Settings, with_training
from playground.training.jobs import Jobs
from playground.training.watch import Trainer, Watches
from tests.playground.conftest import wait_until
from tests.playground.test_people import vote

Serve = Callable[[], tuple[Any, Jobs]]
ROWS = [{"instruction": f"What is {i} + 1?", "output": str(i + 1)} for i in range(20)]


def values(**changes: Any) -> list[Any]:
    """What the form's fields hold."""
    usual: dict[str, Any] = {"recipe": "pocket-tiny", "name": "mine", "start": "", "offered": [], "uploads": None}
    usual |= {"stages": ["base", "sft"], "steps": 20, "lora": -1, "strategy": "auto", "processes": 1}
    return list({**usual, **changes}.values())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{tmp_path / 'votes.sqlite'}")
    yield store
    store.close()


@pytest.fixture
def training(free_port: int, finished_run: Path, tmp_path: Path, fake_trainer: tuple[str, ...], store: Store) -> Iterator[Serve]:
    """Serve a page that trains in a folder of its own: ``training() -> (client, jobs)``."""
    from gradio_client import Client  # type: ignore[import-untyped]

    from playground.ui.app import Services, build, launch

    opened: list[Any] = []
    runs, data = tmp_path / "runs", tmp_path / "data"
    runs.mkdir()
    data.mkdir()
    (data / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))

    def start() -> tuple[Any, Jobs]:
        settings = Settings(runs=runs, port=free_port, recipe=None, training=1, data=data)
        jobs = Jobs(runs, 1, trainer=fake_trainer)
        models, trainer = Models([finished_run.parent, runs], 1 << 30), Trainer(settings)
        services = Services(models, trainer, Watches(models, trainer, jobs), store=store, jobs=jobs, data=data)
        page = build(settings, services)
        opened.extend([jobs, page])
        address = launch(page, settings, LiveBoard(models.runs, None, runs))
        jobs.open()
        client = Client(address, verbose=False)
        client.predict("", [], "", api_name="/job_offer")
        client.predict(None, api_name="/votes_offer")
        return client, jobs

    yield start
    for one in opened:
        one.close()


def refused(client: Any, *given: Any, api_name: str) -> str:
    from gradio_client.exceptions import AppError  # type: ignore[import-untyped]

    with pytest.raises(AppError) as error:
        client.predict(*given, api_name=api_name)
    return str(error.value)


def test_a_training_is_ordered_paused_resumed_and_stopped(training: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_SECONDS", "120")
    client, jobs = training()
    said, free, run = client.predict(*values(), api_name="/job_begin")
    assert "mine" in said
    assert (free, run["value"]) == ("my-run-1", "mine")
    assert jobs.state("mine") == "running"
    client.predict(*values(name="other"), api_name="/job_begin")
    assert jobs.waiting() == ["other"]
    wait_until(lambda: (jobs.run("mine") / "run.json").exists())
    client.predict("mine", api_name="/train_pause")
    wait_until(lambda: jobs.state("other") == "running")
    client.predict("mine", api_name="/train_resume")
    client.predict("other", api_name="/train_stop")
    wait_until(lambda: (jobs.state("mine"), jobs.state("other")) == ("running", "stopped"))
    assert "look again" in refused(client, "other", api_name="/train_resume")


def test_a_recipe_shows_its_stages_and_a_plan_says_what_they_need(training: Serve) -> None:
    client, _ = training()
    stages = client.predict("pocket-methods", "", api_name="/job_recipe")
    assert stages["value"] == ["base", "sft", "rm", "rl", "dpo", "kto", "grpo"]
    assert client.predict("pocket/sft", ["base", "rm", "dpo"], api_name="/job_start") == ["rm", "dpo"]
    for steps in (20, 0, None):
        assert "single" in client.predict(*values(start="pocket/sft", stages=["rm"], steps=steps), api_name="/job_plan")
    assert "needs a reward model" in client.predict(*values(start="pocket/sft", stages=["rl"]), api_name="/job_plan")


def test_uploads_are_looked_at_and_learnt_from(training: Serve, tmp_path: Path) -> None:
    from gradio_client import handle_file

    client, jobs = training()
    upload = tmp_path / "more.jsonl"
    upload.write_text("".join(json.dumps({"prompt": row["instruction"], "response": "<b>No</b>"}) + "\n" for row in ROWS))
    sent = [handle_file(str(upload))]
    shown = client.predict("pocket/sft", ["sums.jsonl"], sent, api_name="/job_check")
    assert "sums.jsonl" in shown
    assert "<ins>" in shown
    assert "&lt;b&gt;No" in shown
    client.predict(*values(start="pocket/base", offered=["sums.jsonl"], uploads=sent, stages=["sft"]), api_name="/job_begin")
    copies = {file.name for file in (jobs.run("mine") / "data").iterdir()}
    assert copies == {"sums.jsonl", "more.jsonl"}


@pytest.mark.parametrize(
    "change",
    [
        {"recipe": "../../../etc/passwd"},
        {"start": "../pocket/sft"},
        {"offered": ["../votes.sqlite"]},
        {"name": "../outside"},
        {"name": "<script>"},
        {"uploads": [{"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}]},
    ],
)
def test_no_field_is_taken_for_a_path(training: Serve, change: dict[str, Any]) -> None:
    client, jobs = training()
    said = refused(client, *values(**change), api_name="/job_begin")
    assert "Traceback" not in said
    assert jobs.ordered() == []
    assert list(jobs.runs.iterdir()) == []


def test_votes_are_counted_and_one_button_trains_on_them(training: Serve, store: Store) -> None:
    client, jobs = training()
    assert "nothing to train on" in refused(client, "pocket/rm", 20, api_name="/votes_train")
    for number in range(1, 20):
        store.add(vote(number))
    store.accept([f"{number:016x}" for number in range(1, 19)])
    counted, judges, _ = client.predict(None, api_name="/votes_offer")
    assert "1 new, 18 accepted" in counted
    assert judges["value"] == "pocket/rm"
    said, run = client.predict("pocket/rm", 20, api_name="/votes_train")
    assert "votes-1" in said
    assert run["value"] == "votes-1"
    assert jobs.state("votes-1") in ("queued", "running")


def test_trainings_are_ordered_only_where_the_operator_allows_it(
    tmp_path: Path, finished_run: Path, monkeypatch: pytest.MonkeyPatch, serve: Callable[..., str]
) -> None:
    from gradio_client import Client

    settings = Settings(runs=tmp_path)
    assert with_training(settings, None, None).training == 0
    monkeypatch.setenv("PLAYGROUND_TRAINING", "2")
    assert with_training(settings, None, tmp_path).training == 2
    assert with_training(settings, 0, None).training == 0
    monkeypatch.setenv("SPACE_ID", "somebody/space")
    assert with_training(settings, 1, None).training == 0
    client = Client(serve(finished_run.parent), verbose=False)
    with pytest.raises(ValueError, match="job_begin"):
        client.predict(*values(), api_name="/job_begin")


def test_what_the_operator_gets_wrong_is_said_in_a_sentence(tmp_path: Path, finished_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from modelkit.errors import UserError

    with pytest.raises(UserError, match="is a single run"):
        with_training(Settings(runs=finished_run), 1, None)
    with pytest.raises(UserError, match="there is no directory"):
        with_training(Settings(runs=tmp_path), 1, tmp_path / "none")
    monkeypatch.setenv("PLAYGROUND_TRAINING", "yes")
    with pytest.raises(UserError, match="give the number of trainings"):
        with_training(Settings(runs=tmp_path), None, None)
