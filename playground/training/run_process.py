"""A command at work on a run: a session of its own, stopped where it can go on later, found again by a page that was restarted."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from playground.training.curves import read_progress

_NICENESS = 5
_STOP_SECONDS = 15.0
_LOOK_SECONDS = 0.05


class RunProcess:
    """The process that works on *run*; *pid* is that of one which an earlier page has started, as far as it still runs.

    What it prints goes to the run's ``logs/trainer.log``.
    """

    def __init__(self, run: Path, pid: int | None = None) -> None:
        self.run, self.pid = run, pid
        self._process: subprocess.Popen[bytes] | None = None
        self._asked_to_stop = False

    @property
    def log(self) -> Path:
        """Where the process's own output goes."""
        return self.run / "logs" / "trainer.log"

    @property
    def running(self) -> bool:
        """Whether it is at work."""
        if self._process is not None:
            return self._process.poll() is None
        return self.pid is not None and _works_on(self.pid, self.run)

    @property
    def failure(self) -> str | None:
        """The sentence that it ended with; ``None`` while it runs, and when it ended well or because it was asked to."""
        status = self._process.poll() if self._process is not None else None
        return self._last_words(status) if status and not self._asked_to_stop else None

    def start(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Start *command* in the background, with these variables set besides the page's own."""
        self._asked_to_stop = False
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **(environment or {})},
            )
        self.pid = self._process.pid
        os.setpriority(os.PRIO_PROCESS, self.pid, _NICENESS)

    def ask_to_stop(self) -> None:
        """Ask it to end at the next place where it can go on later; it goes on working until then."""
        self._asked_to_stop = True
        self._signal(signal.SIGTERM)

    def stop(self) -> None:
        """Ask it to stop and wait for it; kill it when it doesn't listen."""
        self.ask_to_stop()
        self.see_out()

    def see_out(self) -> None:
        """Wait for it once it has been asked to stop; kill it when it doesn't listen."""
        until = time.monotonic() + _STOP_SECONDS
        while self.running and time.monotonic() < until:
            time.sleep(_LOOK_SECONDS)
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self.pid is not None and self.running:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def _last_words(self, status: int) -> str:
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.is_file() else ""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        said = next((line.removeprefix("error: ") for line in reversed(lines) if line.startswith("error: ")), None)
        progress = read_progress(self.run)
        noted = progress.message if progress and progress.state == "failed" else None
        return said or noted or f"the trainer ended with status {status}; its last words are in the run's logs/trainer.log."


def _works_on(pid: int, run: Path) -> bool:
    """Whether the process *pid* is still the one that was started for *run*, and no other that has got its number since."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        progress = read_progress(run)
        return not Path("/proc").is_dir() and progress is not None and progress.alive
    own = os.fsencode(run)
    return any(word == own or word.startswith(own + b"/") for word in words)
