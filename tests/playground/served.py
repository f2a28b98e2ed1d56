"""A real server in a process of its own, and what tests ask it with."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]


@dataclass
class Server:
    """A running ``playground serve``: its process, the address of its API, and what it has printed so far."""

    process: subprocess.Popen[str]
    url: str
    said: list[str] = field(default_factory=list)

    @property
    def root(self) -> str:
        """The server's address without ``/v1``."""
        return self.url.removesuffix("/v1")

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's values with these labels."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        lines = httpx.get(f"{self.root}/metrics").text.splitlines()
        found = [line for line in lines if re.match(rf"{name}[{{ ]", line) and all(want in line for want in wanted)]
        return sum(float(line.rsplit(" ", 1)[1]) for line in found)


@contextmanager
def server(*arguments: object, **environment: str) -> Iterator[Server]:
    """``playground serve`` with these arguments on a free port, ready; it is stopped at the end unless it has ended by itself."""
    command = [sys.executable, "-m", "playground", "serve", "--port", "0", *map(str, arguments)]
    inherited = {**os.environ, "PYTHONPATH": str(ROOT), "PLAYGROUND_API_KEY": "", **environment}
    process = subprocess.Popen(
        command, cwd=ROOT, env=inherited, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8"
    )
    assert process.stdout is not None
    said: list[str] = []
    for line in process.stdout:
        said.append(line)
        if (ready := re.search(r"at (http://\S+/v1)$", line)) is not None:
            break
    else:
        raise AssertionError("".join(said))
    running = Server(process, ready[1], said)
    reader = threading.Thread(target=lambda: said.extend(process.stdout or ()), daemon=True)
    reader.start()
    try:
        yield running
    finally:
        process.terminate()
        process.wait(timeout=120)
        reader.join(timeout=10)
