"""What every part's tests share: quiet threads, where the real data lie, and a browser."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from modelkit.device import prepare_process

prepare_process()
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side, one thread each
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import pytest  # noqa: E402

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).resolve().parent.parent
_CHROMIUM = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data beside the repository (``PLAYGROUND_SHARED`` overrides); a test that needs it skips without."""
    folder = Path(os.environ.get("PLAYGROUND_SHARED", ROOT.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"the real data are not at {folder} (set PLAYGROUND_SHARED)")
    return folder


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The system's Chromium, headless; a test that needs it skips where there is none.

    Playwright keeps an event loop running on this thread until it ends. Tests of other files may need one of their own.
    """
    playwright = pytest.importorskip("playwright.sync_api")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("there is no Chromium on this machine")
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=path, args=_CHROMIUM)
        yield browser
        browser.close()
