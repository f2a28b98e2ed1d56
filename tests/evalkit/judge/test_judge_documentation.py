"""Every command line in docs/judge.md runs, in the order of the page, and the script that judges a run judges a small one."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from modelkit.run import Run
from tests.evalkit.command import evalkit
from tests.evalkit.judge.test_judge_commands import votes
from tests.evalkit.tiny import ask, write_jsonl

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "judge.md"


@pytest.fixture
def here(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory that the page has in mind: a run with a reward reference, and exported votes."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run.path, "runs/pocket")
    Path("runs/pocket/rm/reward_reference.json").write_text(json.dumps({"rewards": [-1.0, 0.0, 1.0], "mean": 0.0, "sd": 1.0}))
    votes(tmp_path / "votes.jsonl", ["a", "b", "tie", "a"])
    return tmp_path


def test_every_command_of_the_page_runs(here: Path) -> None:
    blocks = re.findall(r"^```bash\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("evalkit ")]
    assert len(lines) >= 5
    for line in lines:
        done = evalkit(*shlex.split(line)[1:])
        assert done.exit_code == 0, f"{line}\n{done.output}{done.stderr}"
    assert len(list((here / "runs/pocket/eval").glob("judge-*/judging.json"))) == 2


@pytest.mark.slow
def test_a_run_is_judged_by_its_reward_model_and_by_a_rubric(here: Path) -> None:
    rows = [{"messages": ask(f"Capital of {i}?"), "reference": "Paris", "subject": "capitals"} for i in range(3)]
    write_jsonl(here / "runs/pocket/data/benchmark/wordings.jsonl", [*rows, {"messages": ask("首都在哪里？"), "reference": "北京"}])
    script = ROOT / "benchmarks" / "judge_pocket.py"
    done = subprocess.run(
        [sys.executable, script, "runs/pocket", "--out", "judged", "--limit", "2"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("$ evalkit judge") == 6
    assert {folder.name for folder in Path("judged").iterdir()} >= {"score-rm", "score-rubric", "battle-rm", "battle-rubric"}
