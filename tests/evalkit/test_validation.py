"""The rules that every question passes through, each on rows that break it; and AGIEval's dirt, found by the same rules."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from evalkit.reading import Entry
from evalkit.tasks import agieval
from evalkit.types import Question
from evalkit.validation import Finding, Kind, checked
from modelkit.errors import DataError

FILE = Path("law.csv")
GOOD: dict[str, Any] = {"text": "Which?", "options": ("one", "two", "three", "four"), "gold": "B"}


def rows(*changes: dict[str, Any]) -> list[Entry]:
    """Good rows, each with its changes, that don't ask the same."""
    return [
        Entry(FILE, row, row + 2, **{**GOOD, "text": f"Question {row}?", **change}, content=f"row {row}")
        for row, change in enumerate(changes)
    ]


def check(*changes: dict[str, Any], kind: Kind = "single", public: bool = True) -> tuple[list[Question], list[Finding]]:
    return checked(rows(*changes), "law", (), kind, public)


def rules(findings: list[Finding]) -> list[tuple[str, int, str]]:
    return [(finding.action, finding.row, finding.rule) for finding in findings]


def test_good_rows_become_questions_and_nothing_is_said() -> None:
    questions, findings = check({}, {"gold": "D"}, {"gold": "A"})
    assert [(one.id, one.gold, one.fault) for one in questions] == [("law/0", "B", ""), ("law/1", "D", ""), ("law/2", "A", "")]
    assert findings == []


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"options": ("one", "", "three", "four")}, "empty option"),
        ({"options": ("one", "two", "two ", "four")}, "repeated option"),
        ({"options": ("one", "None", "three", "four")}, "option that reads like a missing value"),
        ({"options": ("one", "NA", "three", "four")}, "option that reads like a missing value"),
        ({"options": ("one", "two", "three")}, "3 options where most have 4"),
        ({"gold": ["B"]}, "answer is a list where most are a str"),
        ({"gold": " B "}, "answer with more than letters"),
        ({"gold": "B。"}, "answer with more than letters"),
        ({"text": "Question 0?"}, "repeated question"),
        ({"text": "Question 0?", "gold": "C"}, "repeated question with another answer"),
    ],
)
def test_an_oddity_is_kept_and_counted(change: dict[str, Any], rule: str) -> None:
    questions, findings = check({}, change, {})
    assert rules(findings) == [("kept", 1, rule)]
    assert not any(one.fault for one in questions)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"gold": ""}, "no answer"),
        ({"gold": None}, "no answer"),
        ({"gold": []}, "no answer"),
        ({"gold": "AD"}, "several answers to a question that should have one"),
        ({"gold": "ABCD"}, "several answers to a question that should have one"),
        ({"gold": ["A", "D"]}, "several answers to a question that should have one"),
        ({"text": " "}, "no question"),
        ({"options": ("one", " ", "", "")}, "fewer than two options"),
        ({"options": ("one",)}, "fewer than two options"),
        ({"options": ()}, "fewer than two options"),
    ],
)
def test_what_nobody_can_score_is_quarantined_with_its_row(change: dict[str, Any], rule: str) -> None:
    if change.get("options") in (("one",), ()):
        change = {**change, "gold": ""}
    questions, findings = check({}, change, {})
    assert [(one.gold, one.fault) for one in questions] == [("B", ""), ("", rule), ("B", "")]
    (finding,) = [one for one in findings if one.action == "quarantined"]
    assert finding.to_json() == {"file": "law.csv", "row": 1, "rule": rule, "action": "quarantined", "content": "row 1"}


@pytest.mark.parametrize("gold", ["E", "b", "two", "1", 7, "AE", ["E"], {"B": 1}])
def test_an_answer_that_no_reading_explains_stops_with_file_and_line(gold: Any) -> None:
    with pytest.raises(DataError, match=r"^law\.csv:3 names .* as the right option: one of A, B, C, D is needed\.$"):
        check({}, {"gold": gold})


@pytest.mark.parametrize(
    ("gold", "letters"), [("DA", "AD"), (["D", "A"], "AD"), ("A、D", "AD"), (["A", "D。"], "AD"), ("B", "B"), (["C"], "C")]
)
def test_several_answers_are_a_set_where_a_question_may_have_them(gold: Any, letters: str) -> None:
    ((question,), _) = check({"gold": gold}, kind="multiple")
    assert (question.gold, question.fault) == (letters, "")


def test_the_place_of_the_right_option_is_an_answer() -> None:
    questions, findings = check({"gold": 0}, {"gold": 3})
    assert [one.gold for one in questions] == ["A", "D"]
    assert findings == []


def test_cloze_answers_are_any_text() -> None:
    questions, _ = check({"gold": r"\frac{1}{2}", "options": ()}, {"gold": "", "options": ()}, kind="cloze")
    assert [(one.gold, one.fault, one.options) for one in questions] == [(r"\frac{1}{2}", "", ()), ("", "no answer", ())]


def test_a_split_without_public_answers_is_not_blamed_for_it() -> None:
    questions, findings = check({"gold": None}, {"gold": None}, public=False)
    assert [(one.gold, one.fault) for one in questions] == [("", ""), ("", "")]
    assert findings == []


def test_agievals_dirty_rows_are_found_by_the_general_rules(shared: Path) -> None:
    task = agieval.load(shared / "data" / "agieval")
    quarantined = Counter((one.file, one.rule) for one in task.findings if one.action == "quarantined")
    assert quarantined == {
        ("gaokao-mathqa.jsonl", "several answers to a question that should have one"): 7,
        ("jec-qa-kd.jsonl", "no answer"): 1,
    }
    assert sum(bool(item.fault) for item in task.items) == 8
    kept = Counter((one.file, one.rule) for one in task.findings if one.action == "kept")
    assert kept["gaokao-physics.jsonl", "answer is a list where most are a str"] == 35
    assert kept["aqua-rat.jsonl", "repeated option"] == 7
    assert (
        kept["gaokao-chemistry.jsonl", "repeated question"] + kept["gaokao-chemistry.jsonl", "repeated question with another answer"] == 22
    )
