"""The page as a person sees it, in the system's Chromium. Every test also holds that nothing goes wrong in the console and that
no request leaves this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from playground.models import Models
from playground.settings import Settings
from playground.training.watch import Trainer
from tests.playground import fake_run
from tests.playground.browsing import Visit, ask, shown, tab

pytestmark = pytest.mark.browser


def test_four_columns_answer_and_every_reply_gets_its_reward(serve: Callable[..., str], finished_run: Path, visit: Visit) -> None:
    page = visit(serve(finished_run.parent))
    page.locator("#pg-select-4").wait_for()
    assert [page.locator(f"#pg-select-{column} input").input_value() for column in (1, 2, 3, 4)] == ["Base", "SFT", "Reward model", "RL"]
    ask(page, "What is 1 plus 2?")
    for column in (1, 2, 3, 4):
        page.locator(f"#pg-chat-{column} .pg-reward").wait_for(timeout=60_000)
    assert page.locator("#pg-chat-3 [data-pg-pick]").count() >= 2
    page.locator("#pg-send").wait_for()
    page.locator("#pg-again").click()
    page.locator("#pg-stop").wait_for()
    page.locator("#pg-send").wait_for(timeout=60_000)
    assert page.locator("#pg-chat-1 [data-testid=user]").count() == 1
    page.locator("#pg-clear").click()
    page.locator("#pg-chat-1 [data-testid=user]").wait_for(state="detached")


def test_stop_ends_what_is_being_written(serve: Callable[..., str], models: Models, finished_run: Path, visit: Visit) -> None:
    models.language(models.entry("pocket/base")).model.register_forward_pre_hook(lambda *_: time.sleep(0.2))
    page = visit(serve(finished_run.parent, models=models))
    page.locator("#pg-select-4").wait_for()
    ask(page, "Go on for ever")
    page.locator("#pg-chat-4 .pg-reward").wait_for(timeout=60_000)
    page.locator("#pg-stop").click()
    shown(page, "stopped").wait_for()
    page.locator("#pg-send").wait_for()


def test_a_message_loads_nothing_from_elsewhere(serve: Callable[..., str], finished_run: Path, visit: Visit) -> None:
    page = visit(serve(finished_run.parent))
    page.locator("#pg-select-4").wait_for()
    ask(page, "![x](https://example.com/a.png) <img src='https://example.com/b.png'> <script>alert(1)</script>")
    page.locator("#pg-chat-2 .pg-reward").wait_for(timeout=60_000)
    assert page.locator("#pg-columns img").count() == 0


def test_a_chinese_browser_sees_chinese(serve: Callable[..., str], finished_run: Path, visit: Visit) -> None:
    page = visit(serve(finished_run.parent), locale="zh-CN")
    page.get_by_role("tab", name="排行榜").wait_for()
    page.locator("#pg-select-4").wait_for()
    assert page.locator("#pg-select-3 input").input_value() == "奖励模型"
    ask(page, "一加二等于几？")
    page.locator("#pg-chat-2 .pg-reward").get_by_text("的 SFT 回复").wait_for(timeout=60_000)
    tab(page, "train")
    page.get_by_text("奖励模型：准确率").wait_for()
    page.get_by_text("完成。各阶段共用时 5 秒").wait_for()


def test_nothing_sticks_out_on_a_phone(serve: Callable[..., str], finished_run: Path, visit: Visit) -> None:
    page = visit(serve(finished_run.parent), viewport={"width": 390, "height": 844})
    page.locator("#pg-select-4").wait_for()
    for name in ("chat", "train", "leaderboard"):
        tab(page, name)
        page.wait_for_timeout(500)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_training_is_seen_live_and_its_checkpoints_appear_in_the_chat(
    serve: Callable[..., str], tmp_path: Path, fake_trainer: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, visit: Visit
) -> None:
    monkeypatch.setenv("FAKE_SECONDS", "20")
    trainer = Trainer(Settings(runs=tmp_path, recipe=tmp_path / "pocket.yaml", trainer=fake_trainer))
    page = visit(serve(tmp_path, trainer=trainer))
    page.get_by_role("tab", name="Training", selected=True).wait_for()
    trainer.start()
    line = page.locator("#pg-curve-base-loss path[aria-roledescription='line mark']")
    line.wait_for(timeout=60_000)
    early = len(line.get_attribute("d"))
    page.wait_for_function(
        "early => document.querySelector('#pg-curve-base-loss path[aria-roledescription=\"line mark\"]').getAttribute('d').length > early",
        arg=early,
    )
    page.locator(".pg-samples article").first.wait_for(timeout=60_000)
    shown(page, " left").wait_for()
    tab(page, "chat")
    shown(page, "Training goes on").wait_for()
    for column in range(1, len(fake_run.STAGES)):
        page.locator(f"#pg-select-{column}").wait_for(timeout=60_000)
    tab(page, "train")
    shown(page, "Done.").wait_for(timeout=60_000)
    page.locator("#pg-report table").wait_for()
    assert page.locator(".pg-samples article").first.inner_text().startswith("PPO")


def test_a_failed_training_says_why_and_can_be_tried_again(
    serve: Callable[..., str], tmp_path: Path, fake_trainer: tuple[str, ...], visit: Visit
) -> None:
    recipe = tmp_path / "pocket.yaml"
    recipe.write_text("broken")
    trainer = Trainer(Settings(runs=tmp_path, recipe=recipe, trainer=fake_trainer))
    trainer.start()
    page = visit(serve(tmp_path, trainer=trainer))
    shown(page, "Training failed: the recipe is broken: mend it.").wait_for(timeout=60_000)
    recipe.write_text("mended")
    page.get_by_role("button", name="Try again").click()
    page.get_by_role("button", name="Try again").wait_for(state="hidden")
    page.locator(".pg-stepper").wait_for(timeout=60_000)
    trainer.stop()
    shown(page, "Stopped.").wait_for()
