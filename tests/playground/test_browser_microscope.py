"""The microscope in a browser: from the chat's reply to a token, to another one in its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.playground.browsing import Visit, answered, ask, tab

pytestmark = pytest.mark.browser


def test_a_token_shows_what_else_could_stand_there_and_a_checkpoint_goes_on(
    serve: Callable[..., str], finished_run: Path, visit: Visit
) -> None:
    page = visit(serve(finished_run.parent), viewport={"width": 390, "height": 844})
    page.locator("#pg-select-4").wait_for()
    ask(page, "What is 1 plus 2?")
    answered(page)
    tab(page, "microscope")
    page.locator("#pg-microscope-chat").click()
    page.locator("[data-pg-token]").first.wait_for(timeout=60_000)
    assert page.locator("#pg-microscope-prompt textarea").input_value() == "What is 1 plus 2?"
    assert page.locator("#pg-microscope-before input").input_value() == "SFT"
    before = page.locator("#pg-microscope-reply textarea").input_value()
    page.locator('[data-pg-token="1"]').focus()
    page.keyboard.press("Enter")
    page.locator(".pg-alternatives tbody tr").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator("#pg-microscope-prompt textarea").fill("Something else")
    page.locator(".pg-alternatives tr:not(:has(small)) [data-pg-alternative]").first.click()
    page.wait_for_function("was => document.querySelector('#pg-microscope-reply textarea').value !== was", arg=before)
    page.locator(".pg-alternatives").wait_for(state="detached")
    assert page.locator("#pg-microscope-prompt textarea").input_value() == "What is 1 plus 2?"  # what the reply was written to
    assert page.locator(".pg-sparks figure").count() == 3
    assert page.locator(".pg-removed tbody tr").count() >= 1
