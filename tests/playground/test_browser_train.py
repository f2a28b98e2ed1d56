"""Training from the page with the real trainer, and talking to what came of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from leaderboards.votes.store import VARIABLE, Store
from playground.leaderboard import LiveBoard
from playground.models import Models
from playground.settings import Settings
from playground.training.jobs import Jobs
from playground.training.watch import Trainer, Watches
from tests.playground.browsing import Visit, ask, findings, shown, tab
from tests.playground.conftest import wait_until
from tests.playground.test_people import vote

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PATIENCE = 300_000
ROWS = [{"instruction": f"What is {i} plus 1?", "output": f"It is {i + 1}."} for i in range(60)]


@pytest.fixture
def page(free_port: int, finished_run: Path, tmp_path: Path, visit: Visit, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, Jobs]]:
    """The page before a copy of the run, which it may train further, with votes that are accepted."""
    from playground.ui.app import Services, build, launch

    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setenv("PLAYGROUND_THREADS", "1")
    runs = tmp_path / "runs"
    shutil.copytree(finished_run, runs / "pocket")
    store = Store(f"sqlite:///{tmp_path / 'votes.sqlite'}")
    for number in range(1, 41):
        store.add(vote(number))
    store.accept([f"{number:016x}" for number in range(1, 41)])
    settings = Settings(runs=runs, port=free_port, recipe=None, training=1)
    jobs = Jobs(runs, 1, environment={VARIABLE: f"sqlite:///{tmp_path / 'votes.sqlite'}"})
    models, trainer = Models([runs], 1 << 30), Trainer(settings)
    services = Services(models, trainer, Watches(models, trainer, jobs), store=store, jobs=jobs)
    built = build(settings, services)
    address = launch(built, settings, LiveBoard(models.runs, None, runs))
    jobs.open()
    browser = visit(address)
    yield browser, jobs
    browser.close()
    built.close(verbose=False)
    jobs.close()
    models.close()
    store.close()


def choose(page: Any, field: str, option: str) -> None:
    """Choose from one of the form's lists."""
    page.locator(f"#{field} input").click()
    page.get_by_role("option", name=option).locator("visible=true").first.click()


def test_a_job_of_20_steps_is_trained_and_talked_to(page: tuple[Any, Jobs], tmp_path: Path) -> None:
    browser, jobs = page
    tab(browser, "train")
    browser.locator("#pg-new-job button").first.click()
    browser.locator("#pg-job-steps input").fill("20")
    choose(browser, "pg-job-start", "SFT (pocket/sft)")
    browser.locator("#pg-job-stages label").filter(has_text="Base").locator("input:not(:checked)").wait_for(timeout=PATIENCE)
    for stage in ("Reward model", "PPO"):
        browser.locator("#pg-job-stages label").filter(has_text=stage).locator("input").uncheck()
    upload = tmp_path / "sums.jsonl"
    upload.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    browser.locator("#pg-job-upload input[type=file]").set_input_files(str(upload))
    browser.locator(".pg-first ins").first.wait_for(timeout=PATIENCE)
    assert "It is 1." in browser.locator(".pg-first ins").first.inner_text()
    browser.locator(".pg-plan td").get_by_text("single").first.wait_for(timeout=PATIENCE)
    browser.locator("#pg-job-name input, #pg-job-name textarea").first.fill("sums")
    browser.locator("#pg-job-begin").click()
    shown(browser, "sums is in the queue.").wait_for(timeout=PATIENCE)
    browser.locator("#pg-job-stop").wait_for(timeout=PATIENCE)
    browser.locator("#pg-curve-sft-loss path[aria-roledescription='line mark']").wait_for(timeout=PATIENCE)
    browser.locator(".pg-samples article").first.wait_for(timeout=PATIENCE)
    shown(browser, "Done.").wait_for(timeout=PATIENCE)
    assert jobs.state("sums") == "done"
    tab(browser, "chat")
    choose(browser, "pg-select-1", "sums · SFT")
    ask(browser, "What is 3 plus 1?")
    browser.locator("#pg-chat-1 .pg-reward").last.wait_for(timeout=PATIENCE)


def test_the_reward_model_learns_from_votes_and_agreement_is_shown(page: tuple[Any, Jobs]) -> None:
    browser, jobs = page
    tab(browser, "train")
    browser.locator("#pg-votes-job button").first.click()
    shown(browser, "40 accepted").wait_for()
    browser.locator("#pg-votes-begin").click()
    shown(browser, "votes-1 is in the queue.").wait_for(timeout=PATIENCE)
    wait_until(lambda: jobs.state("votes-1") in ("done", "failed"), PATIENCE / 1000)
    assert jobs.state("votes-1") == "done", jobs.ordered()[0].failure
    browser.locator("#pg-votes-agreement td").filter(has_text="votes-1").wait_for(timeout=PATIENCE)


def test_the_forms_are_for_everybody_and_fit_a_phone(page: tuple[Any, Jobs], axe: str) -> None:
    browser, _ = page
    for colours in ("light", "dark"):
        browser.emulate_media(color_scheme=colours, reduced_motion="reduce")
        browser.reload()
        browser.locator("#pg-head").wait_for()
        tab(browser, "train")
        for section in ("#pg-new-job", "#pg-votes-job"):
            browser.locator(f"{section} button").first.click()
        browser.locator("#pg-votes-begin").wait_for()
        browser.wait_for_timeout(500)
        assert findings(browser, axe) == [], colours
    browser.set_viewport_size({"width": 390, "height": 844})
    browser.wait_for_timeout(500)
    assert browser.evaluate("document.documentElement.scrollWidth") <= 390
