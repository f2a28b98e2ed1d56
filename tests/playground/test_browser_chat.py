"""Chatting as a person does it, in the system's Chromium."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from playground.models import Models
from tests.playground.browsing import Visit, answered, ask, shown

pytestmark = pytest.mark.browser

Serve = Callable[..., str]


def asked(page: Any, column: int) -> list[str]:
    return [text.strip() for text in page.locator(f"#pg-chat-{column} [data-testid=user]").all_inner_texts()]


def test_one_column_is_stopped_and_asked_again_by_itself(serve: Serve, models: Models, finished_run: Path, visit: Visit) -> None:
    slow = models.language(models.entry("pocket/base")).model.register_forward_pre_hook(lambda *_: time.sleep(0.2))
    page = visit(serve(finished_run.parent, models=models))
    page.locator("#pg-select-4").wait_for()
    ask(page, "Go on for ever")
    for column in (2, 3, 4):
        page.locator(f"#pg-chat-{column} .pg-reward").wait_for(timeout=60_000)
    page.locator("#pg-stop-1").click()
    page.locator("#pg-chat-1").get_by_text("stopped").wait_for(timeout=60_000)
    page.locator("#pg-send").wait_for(timeout=60_000)
    slow.remove()
    page.locator("#pg-chat-1").get_by_label("Retry").click()
    page.locator("#pg-chat-1 .pg-reward").wait_for(timeout=60_000)
    assert asked(page, 1) == asked(page, 4) == ["Go on for ever"]


def test_an_edited_message_is_asked_in_every_column(serve: Serve, finished_run: Path, visit: Visit) -> None:
    page = visit(serve(finished_run.parent))
    page.locator("#pg-select-4").wait_for()
    ask(page, "Is 1 < 2 & 3?")
    answered(page)
    page.locator("#pg-chat-2").hover()
    page.locator("#pg-chat-2").get_by_label("Edit").first.click()
    box = page.locator("#pg-chat-2 textarea")
    box.fill("Is 4 &lt; 5?")
    page.locator("#pg-chat-2").get_by_label("Submit").click()
    page.locator("#pg-chat-4").get_by_text("Is 4 < 5?").wait_for(timeout=60_000)
    answered(page)
    assert asked(page, 1) == asked(page, 3) == ["Is 4 < 5?"]


def test_another_sample_is_picked_to_go_on_with_and_undo_gives_the_message_back(serve: Serve, finished_run: Path, visit: Visit) -> None:
    page = visit(serve(finished_run.parent))
    page.locator("#pg-select-4").wait_for()
    ask(page, "What is 1 plus 2?")
    answered(page)
    second = page.locator("#pg-chat-3 [data-pg-pick]").nth(1)
    said = second.locator("q").inner_text()
    second.click()
    page.locator('#pg-chat-3 [data-pg-pick][aria-pressed="true"]').filter(has_text=said).wait_for()
    shown(page, "Your pick of 8 samples").wait_for()
    page.locator("#pg-undo").click()
    page.locator("#pg-chat-3 [data-testid=user]").wait_for(state="detached")
    assert page.locator("#pg-message textarea").input_value() == "What is 1 plus 2?"


def test_a_reload_keeps_the_chat_and_the_language_can_be_switched(serve: Serve, finished_run: Path, visit: Visit) -> None:
    page = visit(serve(finished_run.parent))
    page.locator("#pg-select-4").wait_for()
    ask(page, "What is 1 plus 2?")
    answered(page)
    page.locator('[data-pg-language="zh"]').click()
    page.get_by_role("tab", name="排行榜").wait_for(timeout=60_000)
    page.locator("#pg-chat-2 .pg-reward").get_by_text("的 SFT 回复").wait_for(timeout=60_000)
    assert asked(page, 4) == ["What is 1 plus 2?"]
    page.locator('[data-pg-language="en"]').click()
    page.get_by_role("tab", name="Leaderboard").wait_for(timeout=60_000)
    page.locator("[data-pg-theme]").click()
    page.reload()
    page.locator("body.dark #pg-chat-2 .pg-reward").wait_for(timeout=60_000)


def test_a_link_brings_models_prompt_and_settings(serve: Serve, finished_run: Path, visit: Visit) -> None:
    address = serve(finished_run.parent)
    page = visit(address + "?models=pocket/rl,pocket/sft&prompt=1+%2B+2+%3D+%3F&temperature=0,1")
    page.locator("#pg-select-2").wait_for()
    page.locator("#pg-own-2").wait_for()
    assert [page.locator(f"#pg-select-{column} input").input_value() for column in (1, 2)] == ["RL", "SFT"]
    assert not page.locator("#pg-select-3").is_visible()
    assert page.locator("#pg-message textarea").input_value() == "1 + 2 = ?"
    page.locator("#pg-share button").first.click()
    page.locator("#pg-make-link").click()
    page.wait_for_function("document.querySelector('#pg-link textarea, #pg-link input')?.value.includes('http')")
    link = page.locator("#pg-link textarea, #pg-link input").first.input_value()
    assert link == address + "?models=pocket/rl,pocket/sft&prompt=1+%2B+2+%3D+%3F&temperature=0,1"


def test_the_chat_is_saved_as_a_file(serve: Serve, finished_run: Path, visit: Visit) -> None:
    page = visit(serve(finished_run.parent))
    page.locator("#pg-select-4").wait_for()
    ask(page, "What is 1 plus 2?")
    answered(page)
    page.locator("#pg-share button").first.click()
    with page.expect_download() as saved:
        page.locator("#pg-jsonl").click()
    rows = [json.loads(line) for line in Path(saved.value.path()).read_text(encoding="utf-8").splitlines()]
    assert saved.value.suggested_filename == "rlhf-playground.jsonl"
    assert [row["checkpoint"] for row in rows] == ["pocket/base", "pocket/sft", "pocket/rm", "pocket/rl"]
