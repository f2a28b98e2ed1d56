"""``python app.py`` in a process of its own, as an operator or a Space starts it, and a visitor of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SETTINGS = (0.7, 0.95, 16, 0, 1, 2, "", False, *(0.7, 0.95, 96, 0, 1) * 4)
"""What the chat's settings hold: temperature, top-p, longest reply, seed, n, the reward model's n, system prompt, and each column's own."""


@contextmanager
def started(runs: Path, port: int, *arguments: str, before: Path | None = None, **environment: str) -> Iterator[str]:
    """The page's address, once it answers; it is stopped at the end. Modules in *before* are found before all others."""
    path = os.pathsep.join(str(folder) for folder in (before, ROOT) if folder)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PLAYGROUND_", "GRADIO_", "SPACE"))}
    told = {**inherited, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PLAYGROUND_THREADS": "1", **environment}
    command = [sys.executable, str(ROOT / "app.py"), "--runs", str(runs), "--port", str(port), "--no-train", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, env=told, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    said = []
    try:
        for line in process.stdout:
            said.append(line)
            if ready := re.search(r"is at (http://\S+)", line):
                yield ready[1].replace("0.0.0.0", "127.0.0.1")
                break
        else:
            raise AssertionError("".join(said))
    finally:
        process.terminate()
        process.wait(timeout=120)


def visitor(address: str, **options: Any) -> Any:
    """Gradio's own client, arrived on the page."""
    from gradio_client import Client  # type: ignore[import-untyped]

    client = Client(address, verbose=False, **options)
    client.predict("", api_name="/arrive")
    return client


def chat(client: Any, prompt: str, *checkpoints: str, settings: tuple[Any, ...] = SETTINGS) -> list[str]:
    """What each checkpoint answers at last, as the chat shows it."""
    chosen = [*checkpoints, *[None] * (4 - len(checkpoints))]
    client.predict(prompt, len(checkpoints), *chosen, *settings, api_name="/begin")
    jobs = [client.submit(api_name=f"/column_{column}") for column in range(1, len(checkpoints) + 1)]
    return [str(job.result(timeout=120)[-1]) for job in jobs]


def look(client: Any, prompt: str, reply: str) -> str:
    """The microscope's card of a reply."""
    client.predict(None, None, "", api_name="/microscope_offer")
    return str(client.predict("pocket/sft", "pocket/rl", prompt, reply, api_name="/microscope_look"))


def battle(client: Any, typed: str) -> list[str]:
    """What both sides of the arena answer."""
    client.predict(typed, api_name="/arena_ask")
    jobs = [client.submit(api_name=f"/arena_{side}") for side in "ab"]
    return [str(job.result(timeout=120)) for job in jobs]
