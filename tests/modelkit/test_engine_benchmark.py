"""The benchmark of the engine runs to its end and prints every bar."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_benchmark_prints_what_is_measured_and_the_bars() -> None:
    command = [sys.executable, "-m", "benchmarks.engine", "--shape", "smallest", "--rounds", "1", "--threads", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    for wanted in ("one by one", "continuous batching", "first token", "second turn", "8 of 8 greedy texts", "0 errors, 0 chats other"):
        assert wanted in " ".join(done.stdout.split())


@pytest.mark.slow
@pytest.mark.parametrize("asked", [["--rows", "1", "3"], ["--bf16", "--packed"], ["--quantise"]])
def test_the_7b_shape_is_measured_in_small(asked: list[str]) -> None:
    command = [sys.executable, "-m", "benchmarks.gptq_7b", "--shape", "smallest", "--threads", "1", *asked]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert ("for 32 blocks" if "--quantise" in asked else "peak memory") in done.stdout
