"""Multiple choice of one's own: named columns, prompts, letters, any number of options – and the documentation's example."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from evalkit.tasks import yaml_task
from evalkit.types import ChoiceTask
from modelkit.errors import UserError
from tests.conftest import ROOT
from tests.evalkit.tiny import write_csv, write_jsonl

ROWS: list[dict] = [
    {"q": "Largest?", "choices": ["ant", "cow", "whale", "cat", "dog"], "right": "C", "topic": "animals"},
    {"q": "2 + 2?", "choices": ["3", "4", "NA"], "right": "B", "topic": "numbers"},
    {"q": "Smallest?", "choices": ["ant", "cow"], "right": 0, "topic": "animals"},
]
SPEC = """
name: trivia
kind: choice
data: test.jsonl
columns: {question: q, options: choices, gold: right, subject: topic}
language: en
"""


def load(folder: Path, spec: str, shots: int | None = None) -> ChoiceTask:
    (folder / "task.yaml").write_text(spec, encoding="utf-8")
    suite = yaml_task.read_suite(folder)
    task = yaml_task.load(folder, suite, "choice", folder, shots)
    assert isinstance(task, ChoiceTask)
    return task


def prompt(task: ChoiceTask, place: int = 0) -> str:
    item = task.items[place]
    (ask,) = task.protocol.asks(item.subject, task.dev.get(item.subject, []), [item], "letters")
    return ask.text()


def test_questions_of_any_number_of_options_come_from_named_columns(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "test.jsonl", ROWS)
    task = load(tmp_path, SPEC)
    assert [(item.id, len(item.options), item.gold, item.categories) for item in task.items] == [
        ("animals/0", 5, "C", ("en",)),
        ("animals/2", 2, "A", ("en",)),
        ("numbers/1", 3, "B", ("en",)),
    ]
    assert prompt(task, 1).endswith("about  animals.\n\nSmallest?\nA. ant\nB. cow\nAnswer:")
    assert "option that reads like a missing value" in task.notes


def test_a_prompt_a_header_and_letters_of_ones_own(tmp_path: Path) -> None:
    write_csv(
        tmp_path / "test.csv",
        [["frage", "a", "b", "c", "lösung"], ["Wie {options}?", "x", "y", "z", "3"], ["Was?", "p", "q", "r", "1"]],
    )
    write_csv(tmp_path / "dev.csv", [["frage", "a", "b", "c", "lösung"], ["Wo?", "da", "dort", "hier", "2"]])
    spec = """
name: quiz
kind: choice
data: test.csv
dev: dev.csv
columns: {question: frage, options: [a, b, c], gold: lösung}
header: "Fragen zu {subject}.\\n"
prompt: "Frage: {question}\\n{options}\\nLösung:"
letters: "123"
shots: 1
"""
    task = load(tmp_path, spec)
    expected = "Fragen zu all.\nFrage: Wo?\n1. da\n2. dort\n3. hier\nLösung: 2\n\nFrage: Wie {options}?\n1. x\n2. y\n3. z\nLösung:"
    assert prompt(task) == expected
    assert [item.gold for item in task.items] == ["C", "A"]
    assert task.protocol.symbols == "123"


def test_a_folder_has_a_subject_for_each_file(tmp_path: Path) -> None:
    for subject in ("law", "art"):
        write_jsonl(tmp_path / "data" / f"{subject}.jsonl", [{"q": subject, "choices": ["a", "b"], "right": "A"}])
    spec = SPEC.replace("test.jsonl", "data").replace(", subject: topic", "").replace("language: en", "categories: {law: hard}")
    task = load(tmp_path, spec)
    assert [(item.id, item.categories) for item in task.items] == [("art/0", ()), ("law/0", ("hard",))]


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        (SPEC.replace("q,", "frage,"), r"test\.jsonl:1 has no column 'frage': it has q, choices, right, topic"),
        (SPEC.replace("test.jsonl", "nowhere.jsonl"), r"no data file .*nowhere\.jsonl"),
        (SPEC.replace("test.jsonl", "task.yaml"), r"task\.yaml is no data file that can be read"),
        (SPEC + "categories: {law: x}", r"gives 'law' a category, but there is no such subject: there is animals, numbers"),
        (SPEC + "shots: 3\ndev: test.jsonl", r"3 shots were asked for, but .*task\.yaml has only 2 for animals: use --shots 2"),
        (SPEC.replace("columns: {question: q,", "columns: {"), r"columns\.question: Field required"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, spec: str, complaint: str) -> None:
    write_jsonl(tmp_path / "test.jsonl", [*ROWS[:2], {"q": "One?", "choices": ["a", "b"], "right": "A", "topic": "animals"}])
    with pytest.raises(UserError, match=complaint):
        load(tmp_path, spec)


def test_the_documentations_example_works_as_it_stands(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "protocols.md").read_text(encoding="utf-8")
    section = text[text.index("### A table with columns of its own") :]
    (spec,) = re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)[:1]
    (rows,) = re.findall(r"```json\n(.*?)```", section, re.DOTALL)[:1]
    (shown,) = re.findall(r"```text\n(.*?)```", section, re.DOTALL)[:1]
    assert len(spec.splitlines()) <= 10
    (tmp_path / "questions.jsonl").write_text(rows, encoding="utf-8")
    assert prompt(load(tmp_path, spec)) + "\n" == shown
