"""``report.html``: self-contained, safe, and usable in a browser of any size, in both languages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from evalkit import report
from evalkit.permutation import permuted, robustness
from evalkit.tasks.mmlu import HENDRYCKS
from evalkit.types import ChoiceTask, Question
from tests.evalkit.answered import questions, result, sample, write

if TYPE_CHECKING:
    from playwright.sync_api import Browser

GOLD = {"high_school_physics": "AAAAA", "law": "ABCD"}
ANSWERS = {"high_school_physics": "ABBBB", "law": "ABC."}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return result(tmp_path / "result", GOLD, ANSWERS).folder


def test_a_report_lies_beside_every_result_and_loads_nothing(folder: Path) -> None:
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert len(page) < 60_000
    assert "default-src 'none'" in page
    assert not re.search(r"(src|href)=|https?://|@import|url\(", page)
    for text in ("mmlu@hendrycks", "50.0 %", "21.5 % – 78.5 %", "high school physics", "ECE 0.", "longer than 9 tokens", "sha256:feed"):
        assert text in page, text


def test_questions_are_there_without_logged_prompts(folder: Path) -> None:
    assert "law question 3?" not in (folder / "report.html").read_text(encoding="utf-8")
    assert "high_school_physics question 1?\\nA. red\\nB. green" in (folder / "report.html").read_text(encoding="utf-8")


def test_a_question_can_bring_no_markup_in(tmp_path: Path) -> None:
    evil = Question("</script>/0", "</script>", ("<b>",), "</script><script>alert(1)</script>", ("<img src=x>", "b"), "B")
    recorded = write(tmp_path / "result", {"mmlu@hendrycks": [sample(evil, "A")]})
    page = report.page(recorded, {"mmlu@hendrycks": report.wording([evil])})
    assert page.count("</script>") == 2
    assert "<b>" not in page
    assert "<img" not in page


def test_only_the_most_confident_wrong_answers_are_kept_and_the_page_says_how_many_there_are(tmp_path: Path) -> None:
    asked = questions("law", "A" * 520)
    recorded = write(tmp_path / "result", {"mmlu@hendrycks": [sample(one, "B", 0.9 if i > 500 else 0.6) for i, one in enumerate(asked)]})
    page = report.page(recorded)
    assert page.count('"all": 520') == report.WRONG_ANSWERS
    assert '"law/519"' in page
    assert '"law/500"' not in page


def test_a_number_that_is_not_the_official_one_says_so(tmp_path: Path) -> None:
    made = result(tmp_path / "result", GOLD, ANSWERS, approximate="shots are sampled", missing_subjects=["anatomy", "virology"])
    page = (made.folder / "report.html").read_text(encoding="utf-8")
    assert "anatomy, virology" in page
    assert "shots are sampled" in page


def test_option_orders_are_shown_where_they_were_asked(tmp_path: Path) -> None:
    task = permuted(ChoiceTask("mmlu@hendrycks", "sha256:0", questions("law", "AB"), HENDRYCKS, {}, 0, ["letters"]))
    lines = [sample(one, "A") for one in task.items]
    recorded = write(tmp_path / "result", {"mmlu@hendrycks": lines})
    assert "Option order" not in report.page(recorded)
    recorded.result.tasks["mmlu@hendrycks"].methods["letters"].permutation = robustness(lines)  # type: ignore[attr-defined]
    assert "same text chosen in all orders" in report.page(recorded)


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme", "language"), [(1280, "light", "en-GB"), (390, "dark", "zh-CN")])
def test_wrong_answers_are_found_by_typing(folder: Path, chromium: Browser, width: int, scheme: str, language: str) -> None:
    context = chromium.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, locale=language)  # type: ignore[arg-type]
    page = context.new_page()
    troubles: list[str] = []
    page.on("console", lambda message: troubles.append(message.text))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.goto((folder / "report.html").as_uri())
    assert page.locator("#answers > li").count() == 4
    page.fill("#query", "physics 3?")
    assert page.locator("#answers > li").count() == 1
    page.locator("#answers summary").click()
    assert page.locator("#answers pre").inner_text().startswith("high_school_physics question 3?\nA. red")
    heading = {"en-GB": ("Wrong answers", "错题"), "zh-CN": ("错题", "Wrong answers")}[language]
    assert page.get_by_role("heading", name=heading[0]).is_visible()
    page.click("#language")
    assert page.get_by_role("heading", name=heading[1]).is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert troubles == []
    context.close()
