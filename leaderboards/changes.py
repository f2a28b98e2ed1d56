"""What is different from the last build: the figures that stood in ``leaderboard.json`` then."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from leaderboards.board import Board
from leaderboards.grid import Field, Grid, Head, Line
from leaderboards.wording import Both, same
from modelkit.errors import DataError

_Key = tuple[Any, ...]
_IDENTITY = ("fingerprint", "dtype", "task", "protocol", "method", "metric", "shots", "chat", "n", "data", "setting")


def read(file: Path) -> list[dict[str, Any]] | None:
    """The records of the last build, ``None`` where there was none.

    :raises DataError: when the file is damaged.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return [dict(record) for record in content["figures"]]
    except FileNotFoundError:
        return None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError):
        raise DataError(f"{file} of the last build is damaged: remove it, and the next build says what changed since this one.") from None


def changes(before: list[dict[str, Any]], now: list[dict[str, Any]], board: Board) -> Grid:
    """New, changed and gone scores."""
    old, new = ({_key(record): record for record in records} for records in (before, now))
    rows = []
    for key in {**old, **new}:
        was, is_ = old.get(key), new.get(key)
        known = is_ or was or {}
        a, b = (record.get("value") if record else None for record in (was, is_))
        if was and is_ and a == b:
            continue
        what = Both("new", "新增") if was is None else Both("gone", "消失") if is_ is None else Both("changed", "变化")
        row = board.names.get(str(known["fingerprint"]))
        called = Both(row.name("en"), row.name("zh")) if row else same(str(known["model"]))
        task = " · ".join(str(part) for part in (known["task"], known["protocol"], known["method"], f"{known['shots']}-shot") if part)
        rows.append(
            Line(
                called,
                [Field([same(task)]), Field([what]), _figure(a), _figure(b), _figure(b - a if a is not None and b is not None else None)],
            )
        )
    heads = [("Model", "模型"), ("Task", "任务"), ("What", "变化"), ("Before", "之前"), ("Now", "现在"), ("Difference", "差值")]
    nothing = Both("Nothing has changed since the last build.", "自上次生成以来没有变化。")
    note = Both("Since the last build into the same folder.", "相对于同一目录的上次生成。")
    return Grid(
        "changes",
        Both("Changes since the last build", "自上次生成以来的变化"),
        note,
        [Head([Both(*head)]) for head in heads],
        rows,
        nothing,
    )


def _key(record: dict[str, Any]) -> _Key:
    return tuple(record.get(name) for name in _IDENTITY)


def _figure(value: float | None) -> Field | None:
    return None if value is None else Field([same(f"{value:.4f}")], value)
