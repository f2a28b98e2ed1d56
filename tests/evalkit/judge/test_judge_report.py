"""``report.html`` of a judging: answers side by side, filters that work, and no way in for markup."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.evalkit.command import evalkit
from tests.evalkit.judge.conftest import PROMPTS, answers
from tests.evalkit.judge.judge_server import NAME, JudgeServer, judging
from tests.evalkit.tiny import write_jsonl

if TYPE_CHECKING:
    from playwright.sync_api import Browser

EVIL = "</script><script>alert(1)</script><img src=x>"


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The pages of a scoring and of a battle in which the judge always names the first answer.

    They are made before the browser's event loop runs, so tests name this first.
    """
    tmp_path = tmp_path_factory.mktemp("reports")
    write_jsonl(prompts := tmp_path / "own.jsonl", PROMPTS)
    files = [answers(tmp_path / "a.jsonl", "a", ["short", EVIL]), answers(tmp_path / "b.jsonl", "b", ["a much longer answer", "x"])]
    contestants = ["-m", files[0], "-m", files[1], "-p", prompts]
    with judging(JudgeServer(first=True)) as server:
        for mode in ("score", "battle"):
            by = ["--judge-url", server.url, "--judge-model", NAME, "--out", tmp_path / mode]
            done = evalkit("judge", mode, *contestants, *by)
            assert done.exit_code == 0, done.output
    return {mode: tmp_path / mode / "report.html" for mode in ("score", "battle")}


def test_a_page_loads_nothing_and_no_answer_brings_markup_in(reports: dict[str, Path]) -> None:
    for file in reports.values():
        page = file.read_text(encoding="utf-8")
        assert "default-src 'none'" in page
        assert not re.search(r"(src|href)=|https?://|@import|url\(", page.replace("img src=x", ""))
        assert page.count("</script>") == 2
        assert "<img" not in page


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme", "language"), [(1280, "light", "en-GB"), (390, "dark", "zh-CN")])
def test_answers_are_found_by_category_language_and_disagreement(
    reports: dict[str, Path], chromium: Browser, width: int, scheme: str, language: str
) -> None:
    context = chromium.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, locale=language)  # type: ignore[arg-type]
    page = context.new_page()
    troubles: list[str] = []
    page.on("console", lambda message: troubles.append(message.text))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    for mode, file in reports.items():
        page.goto(file.as_uri())
        assert page.locator("#rows > li").count() == 8
        page.select_option("#category", "chat")
        page.select_option("#tongue", "zh")
        assert page.locator("#rows > li").count() == 2
        page.select_option("#which", "disagreement")
        assert page.locator("#rows > li").count() == 2
        page.locator("#rows summary").first.click()
        assert page.locator(".side pre").count() == 2
        if mode == "battle":
            assert page.get_by_text({"en-GB": "the orders disagree", "zh-CN": "两种顺序结论不同"}[language]).first.is_visible()
        page.click("#language")
        assert page.get_by_role("heading", name={"en-GB": "回答与评判", "zh-CN": "Answers and judgments"}[language]).is_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert troubles == []
    context.close()
