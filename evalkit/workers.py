"""``--workers N``: the same command N times on this machine, each with its rank, all watched through their journals."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from evalkit import assembly, journal
from evalkit.bench import progress
from evalkit.preparation import Prepared, Say
from modelkit.device import available_threads
from modelkit.errors import UserError

_PAUSE = 0.2


class WorkerError(UserError):
    """A worker that ended before its work was done. ``status`` is the one it ended with."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def run(prepared: Prepared, count: int, arguments: Sequence[str], say: Say) -> None:
    """Start *count* processes of ``evalkit run`` with *arguments*, and wait until all have ended.

    They divide this process's threads. One that dies doesn't stop the others.

    :raises WorkerError: when one has died or failed, naming it and what it said last; what was measured is kept.
    """
    total = sum(len(task.items) * len(assembly.methods_of(task)) for task in prepared.plan.tasks)
    with progress() as watch, _started(count, arguments) as workers:
        known = journal.count(prepared.out, prepared.digest)
        advance = watch(f"{count} workers", total, known)
        alive = dict(enumerate(workers))
        while alive:
            time.sleep(_PAUSE)
            for rank, (process, _) in list(alive.items()):
                if process.poll() is not None:
                    del alive[rank]
                    if process.returncode:
                        say(f"worker {rank} of {count} {_ending(process.returncode)}; the others go on.")
            now = journal.count(prepared.out, prepared.digest) if alive else total
            advance(max(0, now - known))
            known = max(known, now)
        failed = [(rank, process.returncode, _last_line(said)) for rank, (process, said) in enumerate(workers) if process.returncode]
    if failed:
        rank, status, said = failed[0]
        raise WorkerError(
            f"{len(failed)} of {count} workers did not finish: worker {rank} {_ending(status)}{f' ({said})' if said else ''}; what was "
            "measured is kept, and the same command goes on from there.",
            status if status in (2, 3, 4, 5) else 1,
        )


@contextlib.contextmanager
def _started(count: int, arguments: Sequence[str]) -> Iterator[list[tuple[subprocess.Popen[bytes], IO[bytes]]]]:
    """The running workers, each with the file that holds what it says; whoever still runs at the end is told to stop."""
    threads = max(1, available_threads() // count)
    with contextlib.ExitStack() as stack:
        workers: list[tuple[subprocess.Popen[bytes], IO[bytes]]] = []
        try:
            for rank in range(count):
                said = stack.enter_context(tempfile.TemporaryFile())
                environment = {
                    **os.environ,
                    "RANK": str(rank),
                    "WORLD_SIZE": str(count),
                    "LOCAL_RANK": str(rank),
                    "PLAYGROUND_THREADS": str(threads),
                    "PYTHONPATH": os.pathsep.join(path for path in [str(Path(__file__).resolve().parent.parent), *sys.path] if path),
                }
                command = [sys.executable, "-m", "evalkit", "run", *arguments]
                workers.append((subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=said), said))
            yield workers
        finally:
            for process, _ in workers:
                if process.poll() is None:
                    process.terminate()
            for process, _ in workers:
                process.wait()


def _ending(status: int) -> str:
    return f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"


def _last_line(said: IO[bytes]) -> str:
    said.seek(0)
    lines = said.read().decode(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("error: ") if lines else ""
