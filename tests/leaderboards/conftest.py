"""Small runs with results written by hand, so that every figure in a test can be checked by eye."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelkit import atomic
from modelkit.run import Run, RunInfo, Stage

WriteResult = Callable[..., Path]


def method(value: float | None, n: int = 200, **more: Any) -> dict[str, Any]:
    """A method's score with an interval of ± 0.05."""
    interval = None if value is None else [round(value - 0.05, 4), round(value + 0.05, 4)]
    return {"value": value, "n": n, "ci95": interval, **more}


def choice(value: float | None, **more: Any) -> dict[str, Any]:
    """A four-option task scored by per-choice perplexity."""
    return {"kind": "choice", "data": "sha256:aaaaaaaa1", "chance": 0.25, "methods": {"perplexity": method(value, **more)}}


@pytest.fixture
def write_result() -> WriteResult:
    """Write a result file. Later calls are younger, whatever the file system's clock says."""
    clock = iter(range(1_700_000_000, 1_700_000_999))

    def write(folder: Path, tasks: dict[str, Any], path: str = "sft", fingerprint: str = "sha256:0123456789", dtype: str = "fp32") -> Path:
        file = folder / "results.json"
        result = {
            "format": 1,
            "id": folder.name,
            "model": {"path": path, "fingerprint": fingerprint, "dtype": dtype},
            "tasks": tasks,
            "speed": {"seconds": 1.0, "questions_per_s": 200.0, "tokens_computed": 1000},
            "environment": {"torch": "2.13.0"},
        }
        atomic.write_json(file, result)
        now = next(clock)
        os.utime(file, (now, now))
        return file

    return write


@pytest.fixture
def make_run() -> Callable[[Path], Run]:
    """Create a run of four stages, without weights."""

    def make(path: Path) -> Run:
        titles = {"base": "基座", "sft": "监督微调", "rm": "奖励模型", "rl": "强化学习"}
        kinds = {"base": "base", "sft": "sft", "rm": "reward", "rl": "rl"}
        stages = [
            Stage.model_validate({"name": name, "kind": kind, "title": {"en": name.upper(), "zh": titles[name]}})
            for name, kind in kinds.items()
        ]
        return Run.create(path, RunInfo(name="pocket", recipe="sha256:0", languages=["en", "zh"], stages=stages))

    return make
