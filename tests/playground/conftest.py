"""Fixtures: a finished run with tiny random weights, and the page served in this process."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from starlette.types import ASGIApp

from playground.chat.boards import Boards
from playground.leaderboard import LiveBoard
from playground.models import Models
from playground.settings import Settings
from playground.training.watch import Trainer, Watches
from tests.playground import fake_run
from tests.playground.browsing import Visit

if TYPE_CHECKING:
    from playwright.sync_api import Browser

AXE = "axe-core@4.10.3"


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; tests must not write into it."""
    run = tmp_path_factory.mktemp("runs") / "pocket"
    fake_run.make_run(run)
    return run


@pytest.fixture
def models(finished_run: Path) -> Iterator[Models]:
    """The registry of the finished run."""
    models = Models([finished_run.parent], 1 << 30)
    yield models
    models.close()


@pytest.fixture
def fake_trainer(monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """The command of a trainer that only pretends."""
    monkeypatch.setenv("PYTHONPATH", str(Path(fake_run.__file__).parents[2]))
    return (sys.executable, fake_run.__file__)


@pytest.fixture
def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def serve(free_port: int) -> Iterator[Callable[..., str]]:
    """Serve the page for a folder of runs in this process: ``serve(runs, models=…, trainer=…) -> address``."""
    from playground.ui.app import Services, build, launch

    pages = []

    def start(runs: Path, models: Models | None = None, trainer: Trainer | None = None, api: ASGIApp | None = None) -> str:
        settings = Settings(runs=runs, port=free_port, recipe=None)
        models = models or Models([runs], 1 << 30)
        trainer = trainer or Trainer(settings)
        page = build(settings, Services(models, trainer, Watches(models, trainer), Boards()))
        pages.append(page)
        return launch(page, settings, LiveBoard(models.runs, None, runs), api)

    yield start
    for page in pages:
        page.close(verbose=False)


@pytest.fixture
def visit(chromium: Browser) -> Iterator[Visit]:
    """Open an address in a fresh browser context: ``visit(address, locale="zh-CN", viewport={…})`` → a Playwright page."""
    errors: list[str] = []
    contexts = []

    def open_page(address: str, **options: Any) -> Any:
        context = chromium.new_context(**{"locale": "en-US", "viewport": {"width": 1440, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: errors.append(message.text) if _is_trouble(message) else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on(
            "request",
            lambda request: None if request.url.startswith((address.split("?")[0], "data:", "blob:")) else errors.append(request.url),
        )
        page.goto(address)
        page.locator("#pg-head").wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert errors == []


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The script of axe-core, fetched from the npm registry once for each test process; without npm or the registry its tests skip."""
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


def _is_trouble(message: Any) -> bool:
    """Whether the console reports an error; Gradio also reports the streams that end because the page is loaded again."""
    return message.type == "error" and not any(told in message.text for told in ("AbortError", "Connection errored out"))


def wait_until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait for something that another process or thread brings about."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)
