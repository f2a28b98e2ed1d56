"""Checkpoints scored by evalkit, in a process of its own: the two packages don't import each other."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from modelkit.errors import UserError

_OF_THIS_PROCESS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What a launcher tells one rank of many. evalkit is a single process, and would take these for its own."""


def evaluate(checkpoint: Path, tasks: Sequence[str], out: Path, seed: int, threads: int, beat: Callable[[], None]) -> None:
    """Run evalkit on *checkpoint* and leave its results in *out*; *beat* is called about once a second meanwhile.

    :raises UserError: with the last line that evalkit said, when it fails.
    """
    command = [sys.executable, "-m", "evalkit", "run", "-m", str(checkpoint), "-t", ",".join(tasks)]
    command += ["--seed", str(seed), "--out", str(out)]
    status, said = _watched(command, _environment(threads), beat)
    if status != 0:
        raise UserError(f"evaluating {checkpoint.name} failed: {said or f'evalkit ended with status {status}'}")


def _environment(threads: int) -> dict[str, str]:
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in _OF_THIS_PROCESS and not name.startswith(("TORCHELASTIC_", "GROUP_"))
    }
    return {**inherited, "PLAYGROUND_THREADS": str(threads), "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}


def _watched(command: list[str], environment: dict[str, str], beat: Callable[[], None]) -> tuple[int, str]:
    """Run a command; its exit status and the last line it said."""
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            while True:
                try:
                    output, _ = process.communicate(timeout=1.0)
                except subprocess.TimeoutExpired:
                    beat()
                    continue
                lines = output.strip().splitlines()
                return process.returncode, lines[-1] if lines else ""
        except BaseException:
            process.terminate()
            raise
