"""Every command line in docs/evalkit.md runs, in the order of the page, on small data laid out as the page assumes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from evalkit.submit import QUESTIONS
from modelkit.run import Run
from tests.evalkit.answered import result
from tests.evalkit.command import evalkit
from tests.evalkit.test_submit import answered
from tests.evalkit.tiny import write_csv

PAGE = Path(__file__).parents[2] / "docs" / "evalkit.md"
GOLD = {"anatomy": "ABCDABCD", "law": "AABB"}
FOUR = ["red", "green", "blue", "gold"]


def commands() -> list[str]:
    """The lines of the page's ``bash`` blocks."""
    blocks = re.findall(r"^```bash\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


@pytest.fixture
def here(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory that the page has in mind: CHECKPOINT, DATA, and results a to c."""
    monkeypatch.chdir(tmp_path)
    Path("CHECKPOINT").symlink_to(run.checkpoint("sft"))
    for split in ("dev", "test"):
        write_csv(Path(f"DATA/mmlu/data/{split}/anatomy_{split}.csv"), [[f"Question {i}?", *FOUR, "B"] for i in range(5)])
    ask = [[str(i), f"问题{i}", *FOUR] for i in range(5)]
    write_csv(Path("DATA/ceval/test/law_test.csv"), [["id", "question", *"ABCD"], *ask])
    for split in ("dev", "val"):
        rows = [[*row, "B", "解析"] for row in ask]
        write_csv(Path(f"DATA/ceval/{split}/law_{split}.csv"), [["id", "question", *"ABCD", "answer", "explanation"], *rows])
    result(Path("results/a"), GOLD, {"anatomy": "ABCDBBBB", "law": "AAAA"}, prompts=True)
    result(Path("results/b"), GOLD, {"anatomy": "BBCDABCD", "law": "ABBB"})
    result(Path("results/c"), GOLD, {"anatomy": "AAAAAAAA"}, data="sha256:other")
    return tmp_path


def test_every_command_of_the_page_runs(here: Path) -> None:
    lines = commands()
    assert len(lines) > 10
    for line in lines:
        program, *arguments = shlex.split(line)
        assert program == "evalkit"
        if arguments[0] == "submit":  # needs all 12,342 answers
            answered(Path("results/ceval-test"), {subject: "A" * count for subject, count in QUESTIONS.items()})
        done = evalkit(*arguments)
        assert done.exit_code == 0, f"{line}\n{done.output}{done.stderr}"
    written = (
        "flips.csv",
        "answers.csv",
        "submission.json",
        "lm-eval/models__tiny",
        "results/p/report.html",
        "results/ceval-test/results.json",
    )
    assert not [name for name in written if not (here / name).exists()]
