from __future__ import annotations

import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from playground import fragments
from playground.chat.replies import Reply
from playground.training.curves import Progress, RunWatch, Sample, StageLog

EVIL = "<img src=x onerror=alert(1)>"


def test_a_reply_can_bring_neither_html_nor_images() -> None:
    text = fragments.safe_markdown(f"Hi {EVIL} ![x](https://example.com/a.png) **bold**")
    assert "<" not in text
    assert "![" not in text
    assert "**bold**" in text


@given(st.text("ab `<>&![]()\n;l#t9~\\/\u200b", max_size=40))
def test_what_was_typed_comes_back_from_what_is_shown_in_which_no_tag_and_no_image_begins(text: str) -> None:
    shown = fragments.safe_markdown(text)
    assert fragments.typed(shown) == text
    assert not re.search(r"<[A-Za-z/!?]|!\[", shown)


def test_code_in_a_reply_reads_as_it_is() -> None:
    text = "`a < b` and\n```html\n<b>\n```\n<b>"
    shown = fragments.safe_markdown(text)
    assert shown.replace("\u200b", "") == "`a < b` and\n```html\n<b>\n```\n&lt;b>"


def test_what_only_looks_like_code_brings_nothing_to_life() -> None:
    for text in (f"\\`{EVIL}`", f"text ```html\n{EVIL}\n``` more", f"~~~\n```\n~~~\n{EVIL}\n```", "\\`![x](http://192.0.2.1/x.png)`"):
        shown = fragments.safe_markdown(text)
        assert "<img" not in shown
        assert "![" not in shown


def test_a_reply_says_what_it_is_waiting_for() -> None:
    assert "loading" in fragments.reply_text("en", Reply("r", phase="loading"))
    assert "3 of 8" in fragments.reply_text("en", Reply("r", phase="writing", drawn=3, wanted=8))
    assert "空回复" in fragments.reply_text("zh", Reply("r", phase="done"))
    assert EVIL not in fragments.reply_text("en", Reply("r", phase="done", error=EVIL))


def test_the_stepper_tells_done_active_and_coming_stages_apart(tmp_path: Path) -> None:
    watch = RunWatch(tmp_path)
    watch.progress = Progress(state="running", stage="sft", stages=["base", "sft", "rl"], step=3, steps=9, fraction=0.5, eta_seconds=75)
    watch.alive = True
    html = fragments.stepper("en", watch, False, None)
    assert html.index("pg-done") < html.index("pg-active") < html.index("pg-pending")
    assert "50 % · SFT · step 3 of 9 · about 1 min 15 s left" in html
    watch.alive = False
    assert "goes on from here" in fragments.stepper("en", watch, False, None)


def test_the_sentence_of_a_failed_trainer_is_shown_and_escaped(tmp_path: Path) -> None:
    html = fragments.stepper("en", None, False, f"the disk is full {EVIL}")
    assert "Training failed: the disk is full" in html
    assert "<img" not in html


def test_samples_come_newest_first_and_every_stage_keeps_its_last_words() -> None:
    logs = {
        stage: StageLog(stage, samples=[[Sample(stage, step, "p", f"{stage} {EVIL}", -0.5)] for step in range(9)])
        for stage in ("base", "rl")
    }
    html = fragments.samples("zh", logs)
    assert [html.count(stage) for stage in ("PPO", "基座")] == [4, 2]
    assert html.index("PPO") < html.index("基座")
    assert html.index("第 8 步") < html.index("第 7 步")
    assert "<img" not in html
    assert "−0.50" in html
