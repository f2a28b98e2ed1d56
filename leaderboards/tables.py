"""The board as a pandas table for further work: every figure, numbers as numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from leaderboards.board import Board

if TYPE_CHECKING:
    import pandas as pd


def figures(board: Board) -> pd.DataFrame:
    """Every figure of the board: one row per model × task × method, numbers as numbers.

    ``setting`` differs where figures of the same task and method can't be compared all the same (see :class:`leaderboards.board.Column`).
    Plain extras that a metric brings along (its ``model_extra``) follow the fixed columns; one that is a number here and a text there
    is a text, as Parquet has one type for a column.
    """
    import pandas as pd

    records = []
    for row, cells in zip(board.rows, board.cells, strict=True):
        for column, cell in zip(board.columns, cells, strict=True):
            if cell is None:
                continue
            score, result = cell.score, cell.found.result
            asked = result.tasks[column.task]
            facts = asked.model_extra or {}
            task, _, protocol = column.task.partition("@")
            low, high = score.ci95 or (None, None)
            record: dict[str, Any] = {
                "model": row.name(),
                "run": row.run,
                "stage": row.stage,
                "path": result.model.path,
                "fingerprint": row.fingerprint,
                "dtype": row.dtype,
                "task": task,
                "protocol": protocol,
                "kind": column.kind,
                "method": column.method,
                "shots": column.shots,
                "chat": column.chat,
                "metric": column.metric,
                "value": score.value,
                "ci95_low": low,
                "ci95_high": high,
                "n": score.n,
                "unscored": score.unscored,
                "chance": column.chance,
                "micro": score.micro,
                "macro": score.macro,
                "official": score.official,
                "data": asked.data,
                "judge": facts.get("reward_model") or facts.get("judge"),
                "setting": column.setting.removeprefix("sha256:")[:8],
                "result": result.id,
                "doubts": " ".join(doubt.name for doubt in cell.doubts),
            }
            extras = {name: value for name, value in (score.model_extra or {}).items() if isinstance(value, int | float | str)}
            records.append(record | {name: value for name, value in extras.items() if name not in record})
    table = pd.DataFrame(records)
    mixed = [name for name in table if pd.api.types.infer_dtype(table[name], skipna=True).startswith("mixed")]
    return table.assign(**{str(name): table[name].map(str, na_action="ignore") for name in mixed})


def to_csv(table: pd.DataFrame) -> str:
    """*table* as CSV whose texts no spreadsheet takes for a formula: one that starts like a formula gets a ``'`` before it."""
    return table.map(_safe).rename(columns=_safe).to_csv(index=False, lineterminator="\n")


def _safe(cell: Any) -> Any:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell
