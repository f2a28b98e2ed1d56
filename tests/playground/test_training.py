from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from modelkit import atomic
from playground.models import Models
from playground.settings import Settings
from playground.training.curves import read_progress
from playground.training.watch import Trainer, Watches
from tests.playground import fake_run
from tests.playground.conftest import wait_until


@pytest.fixture
def settings(tmp_path: Path, fake_trainer: tuple[str, ...]) -> Settings:
    runs = tmp_path / "runs"
    runs.mkdir()
    return Settings(runs=runs, recipe=tmp_path / "pocket.yaml", trainer=fake_trainer)


def registry(settings: Settings) -> Models:
    return Models([settings.runs], 1 << 30)


def progress_state(settings: Settings) -> str | None:
    progress = read_progress(settings.runs / "pocket")
    return progress.state if progress else None


def test_a_trainer_is_due_until_its_run_is_done(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_SECONDS", "1")
    trainer = Trainer(settings)
    assert trainer.due(registry(settings))
    assert trainer.start()
    wait_until(lambda: progress_state(settings) == "done")
    wait_until(lambda: not trainer.running)
    assert trainer.failure is None
    assert not trainer.due(registry(settings))
    assert registry(settings).defaults() == ["pocket/base", "pocket/sft", "pocket/rm", "pocket/rl"]


def test_a_trainer_is_not_started_twice_and_stops_where_it_can_go_on(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_SECONDS", "120")
    trainer, other = Trainer(settings), Trainer(settings)
    assert trainer.start()
    assert not trainer.start()
    wait_until(lambda: progress_state(settings) == "running")
    assert not other.start()
    assert not other.running
    trainer.stop()
    assert (trainer.running, trainer.failure, progress_state(settings)) == (False, None, "stopped")
    assert other.due(registry(settings))


def test_a_failed_trainer_leaves_its_sentence_and_can_be_tried_again(settings: Settings) -> None:
    recipe = settings.runs.parent / "pocket.yaml"
    recipe.write_text("broken")
    trainer = Trainer(settings)
    trainer.start()
    wait_until(lambda: trainer.failure)
    assert trainer.failure == "the recipe is broken: mend it."
    recipe.write_text("mended")
    assert (trainer.try_again(), trainer.failure) == (True, None)
    wait_until(lambda: progress_state(settings) == "running")
    trainer.stop()


def test_a_visitor_can_try_again_but_not_order_the_pages_own_training(settings: Settings) -> None:
    trainer = Trainer(settings)
    assert not trainer.try_again()
    assert list(settings.runs.iterdir()) == []


def test_a_visitors_training_that_has_the_recipes_name_is_not_the_pages_own(settings: Settings) -> None:
    atomic.write_json(settings.runs / "pocket" / "job.json", {})
    atomic.write_json(settings.runs / "pocket" / "progress.json", {"state": "stopped"})
    assert not Trainer(settings).due(registry(settings))


def test_nothing_is_due_without_a_recipe_or_with_other_checkpoints_at_hand(settings: Settings) -> None:
    assert not Trainer(settings.model_copy(update={"recipe": None})).due(registry(settings))
    fake_run.create(settings.runs / "mine")
    fake_run.write_checkpoint(settings.runs / "mine", fake_run.STAGES[0])
    assert not Trainer(settings).due(registry(settings))


def test_the_run_in_training_is_shown_first_and_others_by_name(settings: Settings) -> None:
    for name in ("another", "pocket"):
        fake_run.create(settings.runs / name)
    (settings.runs / "pocket" / "logs").mkdir()
    watches = Watches(registry(settings), Trainer(settings))
    assert watches.names() == ["pocket", "another"]
    first, other = watches.of(None), watches.of("another")
    assert first is not None
    assert other is not None
    assert (first.run.name, other.run.name) == ("pocket", "another")
    assert watches.of("another") is other
    assert watches.of("../etc") is first


def test_a_trainer_that_was_killed_is_not_taken_for_alive(settings: Settings) -> None:
    run = settings.runs / "pocket"
    atomic.write_json(run / "progress.json", {"state": "running", "pid": os.getpid(), "time": time.time() - 100})
    assert Trainer(settings).due(registry(settings))
    progress = read_progress(run)
    assert progress is not None
    assert not progress.alive
