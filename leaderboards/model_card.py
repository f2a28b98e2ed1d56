"""A model's results as the ``model-index`` metadata that the Hugging Face Hub shows beside a model card."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from leaderboards.board import Board, Cell, Row
from modelkit.errors import UserError

_TASKS = {"choice": "multiple-choice", "judge": "text-generation", "answer": "text-generation", "pairs": "text-classification"}


def metadata(board: Board, model: str, name: str | None = None) -> str:
    """The YAML block, between its ``---`` lines, of a model's scores; scores without a value are left out, as the Hub needs one.

    :param model: the path, ``run/stage``, the name in the table, the fingerprint or its beginning.
    :raises UserError: when no model or more than one is meant, or none of its scores has a value.
    """
    import yaml

    places = [k for k, (row, cells) in enumerate(zip(board.rows, board.cells, strict=True)) if _meant(model, row, cells)]
    if len(places) != 1:
        known = ", ".join(row.names["en"] for row in board.rows[:20])
        called = f"{len(places)} models here are" if places else "no model here is"
        raise UserError(f"{called} called {model}: name one of {known}.")
    row = board.rows[places[0]]
    results: list[dict[str, Any]] = []
    for column, cell in zip(board.columns, board.cells[places[0]], strict=True):
        if cell is None or cell.score.value is None:
            continue
        task = cell.found.result.tasks[column.task]
        details = {
            "method": column.method,
            "n": column.n,
            "unscored": cell.score.unscored,
            "data": task.data,
            "result": cell.found.result.id,
        }
        details |= {"ci95": list(cell.score.ci95)} if cell.score.ci95 else {}
        details |= {"doubts": [doubt.text.en for doubt in cell.doubts]} if cell.doubts else {}
        results.append(
            {
                "task": {"type": _TASKS.get(column.kind, "text-generation")},
                "dataset": {"type": column.benchmark, "name": column.task, "args": {"num_few_shot": column.shots}},
                "metrics": [
                    {"type": column.metric, "name": f"{column.metric} ({column.method})", "value": cell.score.value, "args": details}
                ],
            }
        )
    if not results:
        raise UserError(f"{row.names['en']} has no scores with a value.")
    called = name or row.stage or Path(row.names["en"]).name
    block = {"model-index": [{"name": called, "results": results}]}
    return f"---\n{yaml.safe_dump(block, sort_keys=False, allow_unicode=True)}---\n"


def _meant(model: str, row: Row, cells: Sequence[Cell | None]) -> bool:
    """Whether somebody who says *model* means this row."""
    found = [cell.found for cell in cells if cell]
    stages = {one.run.checkpoint(one.stage.name).resolve() for one in found if one.run and one.stage}
    named = model in {row.names["en"], row.fingerprint, f"{row.run}/{row.stage}", *(one.result.model.path for one in found)}
    marked = len(model) > 7 and row.fingerprint.removeprefix("sha256:").startswith(model.removeprefix("sha256:"))
    return named or marked or Path(model).resolve() in stages
