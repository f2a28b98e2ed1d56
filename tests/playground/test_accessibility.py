"""What axe-core finds on every tab, in light and in dark: labels, roles, contrast; and that the keyboard reaches things in order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.playground.browsing import Visit, answered, ask, findings, tab

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_axe_finds_nothing_to_complain_about(serve: Callable[..., str], finished_run: Path, visit: Visit, axe: str, colours: str) -> None:
    page = visit(serve(finished_run.parent), color_scheme=colours, reduced_motion="reduce")
    page.locator("#pg-select-4").wait_for()
    ask(page, "What is 1 plus 2?")
    answered(page)
    page.locator("#pg-settings button").first.click()
    for name in ("chat", "train", "leaderboard"):
        tab(page, name)
        page.wait_for_timeout(500)
        assert findings(page, axe) == [], name


def test_the_keyboard_goes_from_the_columns_to_the_message_and_sends_it(
    serve: Callable[..., str], finished_run: Path, visit: Visit
) -> None:
    page = visit(serve(finished_run.parent))
    page.locator("#pg-select-4").wait_for()
    page.locator("#pg-select-1 input").focus()
    reached = []
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.closest('[id^=pg-]')?.id"))
    assert [name for name in reached if name in ("pg-select-2", "pg-select-4", "pg-message", "pg-again")] == [
        "pg-select-2",
        "pg-select-4",
        "pg-message",
        "pg-again",
    ]
    page.locator("#pg-message textarea").focus()
    page.keyboard.type("What is 1 plus 2?")
    page.keyboard.press("Enter")
    answered(page)
