"""What tests do in a browser: open the page, ask, go to a tab, look for what keeps people out."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from playground.texts import LANGUAGES, t

Visit = Callable[..., Any]
"""``visit(address, locale="zh-CN", viewport={…})`` opens an address in a fresh browser context and returns the Playwright page."""


def ask(page: Any, text: str) -> None:
    """Put a message to the columns."""
    page.locator("#pg-message textarea").fill(text)
    page.locator("#pg-send").click()


def shown(page: Any, text: str) -> Any:
    """The first visible element with a text; the other tabs may hold it too."""
    return page.get_by_text(text).locator("visible=true").first


def tab(page: Any, name: str) -> None:
    """Go to a tab, whichever language the page is in."""
    titles = [t(language, f"tab.{name}") for language in LANGUAGES]
    page.get_by_role("tab").filter(has_text=re.compile("|".join(titles))).first.click()


def answered(page: Any, columns: int = 4) -> None:
    """Wait until every column has its reward and Send is back."""
    for column in range(1, columns + 1):
        page.locator(f"#pg-chat-{column} .pg-reward").last.wait_for(timeout=60_000)
    page.locator("#pg-send").wait_for(timeout=60_000)


NOT_OURS = ["scrollable-region-focusable"]
"""Rules that only Gradio's own scrolling boxes break."""


def findings(page: Any, axe: str) -> list[str]:
    """The rules of accessibility that the page breaks as it is now, each with the places; *axe* is the script of axe-core."""
    page.evaluate(axe)
    rules = {rule: {"enabled": False} for rule in NOT_OURS}
    found = page.evaluate(
        "rules => axe.run({exclude: ['.vega-embed']}, {runOnly: ['wcag2a', 'wcag2aa'], rules})",
        rules,
    )
    return [f"{rule['id']}: {node['target']} {node['failureSummary']}" for rule in found["violations"] for node in rule["nodes"]]
