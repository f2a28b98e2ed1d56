"""Judgings are collected like any other result, and numbers of different judges never share a column."""

from __future__ import annotations

from pathlib import Path

from leaderboards.board import make_board
from leaderboards.collect import collect
from tests.evalkit.command import evalkit
from tests.evalkit.judge.conftest import PROMPTS, answers
from tests.evalkit.judge.judge_server import NAME, JudgeServer, judging
from tests.evalkit.tiny import write_jsonl


def test_each_judge_has_a_column_for_each_language(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "own.jsonl", PROMPTS)
    files = [answers(tmp_path / f"{name}.jsonl", name, [text]) for name, text in (("a", "x"), ("b", "longer"))]
    for judge in ("first", "second"):
        with judging(JudgeServer(structured=judge == "first")) as server:
            by = ["--judge-url", server.url, "--judge-model", NAME, "--out", tmp_path / "results" / judge]
            done = evalkit("judge", "score", "-m", files[0], "-m", files[1], "-p", tmp_path / "own.jsonl", *by)
        assert done.exit_code == 0, done.output
    board = make_board(collect([tmp_path / "results"]))
    assert len(board.rows) == 2
    assert len(board.columns) == 4
    assert {column.kind for column in board.columns} == {"judge"}
    best = [row.names["en"] for row, cells in zip(board.rows, board.cells, strict=True) if all(cell and cell.best for cell in cells)]
    assert best == [str(files[1])]
