"""What axe-core finds on every tab, in light and in dark: labels, roles, contrast; and that the keyboard reaches things in order.

axe-core is fetched from the npm registry, once for each test process; without npm or the registry the test is skipped.
"""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.playground.browsing import Visit, answered, ask, tab

pytestmark = pytest.mark.browser

AXE = "axe-core@4.10.3"
NOT_OURS = ["scrollable-region-focusable"]
"""Rules that only Gradio's own scrolling boxes break."""


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The script, as text."""
    if shutil.which("npm") is None:
        pytest.skip("there is no npm on this machine, which fetches axe-core")
    folder = tmp_path_factory.mktemp("axe")
    done = subprocess.run(["npm", "pack", AXE, "--silent"], cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        pytest.skip(f"{AXE} can't be fetched from the npm registry")
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        script = archive.extractfile("package/axe.min.js")
        assert script is not None
        return script.read().decode()


def findings(page: Any, axe: str) -> list[str]:
    """The rules broken, each with the places."""
    page.evaluate(axe)
    rules = {rule: {"enabled": False} for rule in NOT_OURS}
    found = page.evaluate(
        "rules => axe.run({exclude: ['.vega-embed']}, {runOnly: ['wcag2a', 'wcag2aa'], rules})",
        rules,
    )
    return [f"{rule['id']}: {node['target']} {node['failureSummary']}" for rule in found["violations"] for node in rule["nodes"]]


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
