"""C-Eval's submission file: whole, in the site's format, or a sentence that names what is missing."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from evalkit.recorded import Recorded
from evalkit.submit import QUESTIONS, submission
from evalkit.tasks.ceval import CHINESE, OFFICIAL
from evalkit.types import Question
from modelkit.errors import UserError
from tests.evalkit.answered import result, sample, write
from tests.evalkit.command import assert_one_sentence, evalkit


def answered(folder: Path, answers: Mapping[str, str]) -> Recorded:
    """A result of the test split, whose questions have no public answer."""
    options = ("甲", "乙", "丙", "丁")
    lines = [
        sample(Question(f"{subject}/{row}", subject, (), f"{subject} {row}", options, ""), letter)
        for subject, letters in answers.items()
        for row, letter in enumerate(letters)
    ]
    return write(folder, {"ceval@official": lines}, OFFICIAL)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    answers = {subject: ("ABCD" * count)[:count] for subject, count in QUESTIONS.items()}
    return answered(tmp_path_factory.mktemp("ceval") / "result", answers).folder


def test_the_counts_are_those_of_the_benchmark(shared: Path) -> None:
    folder = shared / "data" / "ceval" / "test"
    assert QUESTIONS.keys() == CHINESE.keys()
    for subject, count in QUESTIONS.items():
        with (folder / f"{subject}_test.csv").open(encoding="utf-8-sig", newline="") as file:
            assert [row["id"] for row in csv.DictReader(file)] == [str(row) for row in range(count)]


def test_a_whole_result_becomes_the_file_the_site_takes(whole: Path, tmp_path: Path, shared: Path) -> None:
    done = evalkit("submit", "ceval", whole, "--out", tmp_path / "submission.json")
    assert done.exit_code == 0, done.stderr
    assert "12,342 answers in 52 subjects" in done.stdout
    made = json.loads((tmp_path / "submission.json").read_text(encoding="utf-8"))
    example = json.loads((shared / "data" / "ceval" / "submission_example.json").read_text(encoding="utf-8"))
    assert made.keys() == example.keys()
    assert all(made[subject].keys() >= rows.keys() for subject, rows in example.items())
    assert {subject: len(rows) for subject, rows in made.items()} == QUESTIONS
    assert {letter for rows in made.values() for letter in rows.values()} == set("ABCD")
    assert list(made["law"].items())[:5] == [("0", "A"), ("1", "B"), ("2", "C"), ("3", "D"), ("4", "A")]


def test_a_missing_subject_is_named(tmp_path: Path) -> None:
    recorded = answered(tmp_path / "result", {"law": "A" * QUESTIONS["law"]})
    assert_one_sentence(evalkit("submit", "ceval", recorded.folder, "--out", tmp_path / "s.json"), "lacks 51 of the 52 subjects", status=4)
    assert not (tmp_path / "s.json").exists()


def test_a_missing_question_is_named(tmp_path: Path) -> None:
    recorded = answered(tmp_path / "result", {subject: "A" * (count - (subject == "logic")) for subject, count in QUESTIONS.items()})
    with pytest.raises(UserError, match="lacks 1 questions: logic/203"):
        submission(recorded)


def test_questions_without_a_letter_need_fill(tmp_path: Path) -> None:
    recorded = answered(tmp_path / "result", {subject: ".B" + "A" * (count - 2) for subject, count in QUESTIONS.items()})
    with pytest.raises(UserError, match="52 questions have no letter .*longer than 9 tokens"):
        submission(recorded)
    made, filled = submission(recorded, fill="D")
    assert (filled, made["law"]["0"], made["law"]["1"]) == (52, "D", "B")
    assert_one_sentence(evalkit("submit", "ceval", recorded.folder, "--out", tmp_path / "s.json", "--fill", "E"), "--fill E is no letter")


def test_the_val_split_and_other_benchmarks_make_no_submission(tmp_path: Path) -> None:
    val = result(tmp_path / "val", {"law": "AB"}, {"law": "AB"}, "ceval@official", OFFICIAL)
    assert_one_sentence(evalkit("submit", "ceval", val.folder, "--out", tmp_path / "s.json"), "whose right answers are public")
    mmlu = result(tmp_path / "mmlu", {"law": "AB"}, {"law": "AB"})
    assert_one_sentence(evalkit("submit", "ceval", mmlu.folder, "--out", tmp_path / "s.json"), "holds 0 C-Eval tasks")
    assert_one_sentence(evalkit("submit", "mmlu", mmlu.folder, "--out", tmp_path / "s.json"), "takes no submissions")
