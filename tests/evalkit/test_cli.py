"""The command line: one sentence for every mistake, and whole evaluations of a real checkpoint."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner
from typer.testing import Result as Done

from evalkit.cli import app
from evalkit.methods import text
from modelkit.records import Result
from modelkit.run import Run

ROOT = Path(__file__).parents[2]


def evalkit(*arguments: object) -> Done:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


def assert_one_sentence(done: Done, *parts: str, status: int = 2) -> None:
    assert done.exit_code == status, done.output
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert all(part in line for part in parts), line


def test_tasks_lists_benchmarks_protocols_and_kinds() -> None:
    done = evalkit("tasks")
    assert done.exit_code == 0
    for word in ("mmlu@hendrycks", "cmmlu@official", "ceval@official", "perplexity", "kind: pairs"):
        assert word in done.stdout


def test_a_suite_ends_in_a_table_and_a_result_in_the_run(run: Run, tmp_path: Path) -> None:
    done = evalkit("run", "-m", run.checkpoint("sft"), "-t", "pocket.choice,pocket.text", "--limit", 2, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    assert "pocket.choice" in done.stdout
    assert "bits_per_byte" in done.stdout
    assert str(tmp_path / "out") in done.stdout
    assert Result.read(tmp_path / "out" / "results.json").tasks["pocket.choice"].methods["letters"].n == 2


@pytest.mark.parametrize(("task", "official"), [("mmlu", "micro"), ("cmmlu", "macro"), ("ceval", "macro")])
def test_a_real_checkpoint_on_a_real_benchmark(shared: Path, tmp_path: Path, task: str, official: str) -> None:
    data = shared / "data"
    done = evalkit("run", "-m", data / "stories260k", "-t", task, "--data", data / task, "--limit", 120, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    result = Result.read(tmp_path / "out" / "results.json")
    (score,) = result.tasks.values()
    letters = score.methods["letters"]
    assert (letters.n, letters.official, score.shots) == (120, None, 5)
    assert (score.model_extra or {})["average"] == official
    assert " of its questions left out by --limit" in done.stdout
    assert letters.unscored == sum(score.unscored_reasons.values())
    assert sum(score.shots_used.values()) == letters.n - letters.unscored
    assert "5" not in score.shots_used
    lines = [json.loads(line) for line in next((tmp_path / "out" / "samples").iterdir()).read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 120
    assert all((line["prediction"] is None) == (line["reason"] is not None) for line in lines)


def test_the_module_runs_as_a_program_and_answers_a_mistake_without_a_traceback(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "evalkit", "run", "-m", "nowhere", "-t", "mmlu"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "error: there is no checkpoint at nowhere: check the path.\n"
    assert list(tmp_path.iterdir()) == []


def test_a_question_that_nobody_settled_makes_the_command_fail(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "measure", lambda task, items, bench, record: {})
    done = evalkit("run", "-m", run.checkpoint("sft"), "-t", "pocket.text", "--out", tmp_path / "out")
    assert done.exit_code == 1
    assert "2 questions are neither scored nor have a reason" in done.stderr
