"""Take the pictures in docs/images of a finished run: ``python docs/screenshots.py --runs runs`` (needs playwright and Chromium)."""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from playground.texts import t

IMAGES = Path(__file__).parent / "images"
TABS = ("arena", "microscope", "train", "leaderboard")
SHOTS: dict[str, dict[str, Any]] = {
    "chat": {},
    "chat-dark-zh": {"color_scheme": "dark", "locale": "zh-CN"},
    "chat-phone": {"viewport": {"width": 390, "height": 844}},
}
SITE: dict[str, tuple[str, dict[str, Any]]] = {
    "site": ("scores", {}),
    "site-ratings-dark-zh": ("ratings", {"color_scheme": "dark", "locale": "zh-CN"}),
    "site-plots": ("plots", {}),
    "site-phone": ("scores", {"viewport": {"width": 390, "height": 844}}),
}
"""Pictures of the leaderboards' site: the tab to open, and how the browser looks at it."""
MESSAGES = {"en-US": "What is the capital of Italy?", "zh-CN": "请帮我算一算8 + 8。"}


def main() -> None:
    """Serve the page, look at every tab, write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, default=IMAGES)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = [sys.executable, "-m", "playground", "page", "--runs", str(asked.runs), "--port", port, "--no-train", "--training", "1"]
    server = subprocess.Popen(command)
    address = f"http://127.0.0.1:{port}/"
    try:
        wait_for(address)
        with sync_playwright() as engine:
            browser = engine.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"])
            for name, options in SHOTS.items():
                take(browser, address, name, options, asked.out)
            take_site(browser, asked.runs, asked.out)
            browser.close()
    finally:
        server.terminate()
        server.wait()


def take(browser: Browser, address: str, name: str, options: dict[str, Any], out: Path) -> None:
    """Chat in four columns and write ``<name>.png``; in the plain view use each other tab, too, and write a picture of it."""
    page = browser.new_page(**{"viewport": {"width": 1440, "height": 900}, "locale": "en-US", **options})
    page.goto(address)
    page.locator("#pg-send:not([disabled])").wait_for(timeout=120_000)
    page.locator("#pg-message textarea").fill(MESSAGES[options.get("locale", "en-US")])
    page.locator("#pg-send").click()
    for column in range(1, 5):
        page.locator(f"#pg-chat-{column} .pg-reward").wait_for(timeout=120_000)
    page.locator("#pg-send").wait_for(timeout=120_000)
    page.mouse.move(0, 0)
    page.wait_for_timeout(1000)
    page.screenshot(path=out / f"{name}.png")
    for tab in TABS if not options else ():
        page.get_by_role("tab", name=t("en", f"tab.{tab}"), exact=True).click()
        page.wait_for_timeout(5000)
        if tab == "arena":
            page.locator("#pg-arena-next").click()
            page.locator("#pg-vote-a:not([disabled])").click(timeout=120_000)
            page.wait_for_timeout(5000)
        if tab == "microscope":
            page.locator("#pg-microscope-chat").click()
            page.locator(".pg-likelier, .pg-unlikelier").first.click(timeout=120_000)
            page.locator(".pg-alternatives tbody tr").first.wait_for(timeout=120_000)
        page.screenshot(path=out / f"{tab}.png", full_page=tab == "microscope")
        if tab == "train":
            fill_in(page)
            page.screenshot(path=out / "train-form.png")
    page.close()


def fill_in(page: Page) -> None:
    """A training of a few steps that begins with the SFT checkpoint, on a file of a visitor's own."""
    rows = [{"prompt": f"What is {number} plus 8?", "response": f"It is {number + 8}."} for number in range(200)]
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    page.locator("#pg-new-job button").first.click()
    page.locator("#pg-job-start input").click()
    page.get_by_role("option", name="/sft)").first.click()
    page.locator("#pg-job-stages label").filter(has_text=t("en", "stage.base")).locator("input:not(:checked)").wait_for(timeout=120_000)
    for stage in ("rm", "rl"):
        page.locator("#pg-job-stages label").filter(has_text=t("en", f"stage.{stage}")).locator("input").uncheck()
    page.locator("#pg-job-steps input").fill("40")
    page.locator("#pg-job-upload input[type=file]").set_input_files({"name": "sums.jsonl", "mimeType": "text/plain", "buffer": content})
    page.locator(".pg-first ins").first.wait_for(timeout=120_000)
    page.locator(".pg-plan").first.wait_for(timeout=120_000)
    page.wait_for_timeout(5000)


def take_site(browser: Browser, runs: Path, out: Path) -> None:
    """Build the leaderboards' site and write a picture of some of its views."""
    with tempfile.TemporaryDirectory() as folder:
        votes = runs / "votes.sqlite"
        voted = ["--votes", str(votes)] if votes.is_file() else []
        subprocess.run([sys.executable, "-m", "leaderboards", "build", str(runs), *voted, "--out", folder], check=True)
        for name, (tab, options) in SITE.items():
            page = browser.new_page(**{"viewport": {"width": 1440, "height": 900}, "locale": "en-US", **options})
            page.goto((Path(folder) / "index.html").as_uri() + f"#tab={tab}")
            page.wait_for_timeout(3000)
            page.screenshot(path=out / f"{name}.png")
            page.close()


def wait_for(address: str, seconds: float = 120.0) -> None:
    """Wait until the page answers."""
    until = time.monotonic() + seconds
    while True:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except (urllib.error.URLError, TimeoutError):
            if time.monotonic() > until:
                raise
            time.sleep(0.5)


if __name__ == "__main__":
    main()
