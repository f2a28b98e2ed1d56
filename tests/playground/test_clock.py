"""How often a page asks what is new."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from playground.ui import clock
from playground.ui.clock import OFTEN_SECONDS, seconds


def services(busy: bool, checkpoints: int = 1) -> Any:
    return SimpleNamespace(watches=SimpleNamespace(busy=busy), models=SimpleNamespace(catalogue=lambda: [Path()] * checkpoints))


@pytest.mark.parametrize(
    ("asked", "often"),
    [
        (seconds(services(busy=False)), False),
        (seconds(services(busy=True)), True),
        (seconds(services(busy=False, checkpoints=0)), True),
        (seconds(services(busy=False), SimpleNamespace(alive=True)), True),  # type: ignore[arg-type]
        (seconds(services(busy=False), SimpleNamespace(alive=False)), False),  # type: ignore[arg-type]
    ],
)
def test_often_where_there_is_something_to_see(asked: float, often: bool) -> None:
    assert asked == (OFTEN_SECONDS if often else clock._SELDOM_SECONDS)
