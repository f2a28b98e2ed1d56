"""Multiple choice of one's own: named columns, prompts, letters, any number of options – and the documentation's example."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from evalkit.methods import perplexity
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


def test_a_subject_in_several_files_has_an_id_for_each_question(tmp_path: Path) -> None:
    for file in ("one", "two"):
        write_jsonl(tmp_path / "data" / f"{file}.jsonl", [{**ROWS[0], "q": file}, ROWS[1]])
    task = load(tmp_path, SPEC.replace("test.jsonl", "data"))
    assert {item.id: item.text for item in task.items if item.subject == "animals"} == {"animals/0": "one", "animals/2": "two"}
    assert len({item.id for item in task.items}) == len(task.items) == 4


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        (SPEC.replace("q,", "frage,"), r"test\.jsonl:1 has no column 'frage': it has q, choices, right, topic"),
        (SPEC.replace("test.jsonl", "nowhere.jsonl"), r"no data file .*nowhere\.jsonl"),
        (SPEC.replace("test.jsonl", "task.yaml"), r"task\.yaml is no data file that can be read"),
        (SPEC + "categories: {law: x}", r"gives 'law' a category, but there is no such subject: there is animals, numbers"),
        (SPEC + "shots: 3\ndev: dev.jsonl", r"3 shots were asked for, but .*task\.yaml has only 2 for animals: use --shots 2"),
        (SPEC + "shots: 2\ndev: dev.jsonl", r"animals/1 can't be a shot \(no answer\)"),
        (SPEC + "shots: 1", r"1 shots were asked for, but .*task\.yaml names no file for them but that of the questions"),
        (SPEC + "shots: 1\ndev: ./test.jsonl", r"names no file for them but that of the questions"),
        (SPEC + 'letters: "1234"', r"test\.jsonl:1 has 5 options, and 1234 are letters for 4"),
        (SPEC + "letters: ABCA", "letters must differ"),
        (SPEC + "letters: ABCDEFGHIJK", "letters: String should have at most 10"),
        (SPEC + 'prompt: "Q: {query}"', r"prompt has no \{question\}, so nothing would be asked"),
        (SPEC.replace("q,", "q, passage: text,"), r"columns names a passage, which is asked only where prompt has \{passage\}"),
        (SPEC.replace("columns: {question: q,", "columns: {"), r"columns\.question: Field required"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, spec: str, complaint: str) -> None:
    animal = {"q": "One?", "choices": ["a", "b"], "right": "A", "topic": "animals"}
    write_jsonl(tmp_path / "test.jsonl", [*ROWS[:2], animal])
    write_jsonl(tmp_path / "dev.jsonl", [animal, animal | {"right": ""}])
    with pytest.raises(UserError, match=complaint):
        load(tmp_path, spec)


def test_a_passage_stands_where_the_prompt_has_it_and_before_the_question_of_perplexity(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "test.jsonl", [{"q": "Who?", "text": "Ada wrote it.", "choices": ["Ada", "Bob"], "right": "A", "topic": "x"}])
    spec = SPEC.replace("q,", "q, passage: text,") + 'prompt: "{passage}\\n{question}\\n{options}\\n"'
    task = load(tmp_path, spec)
    assert prompt(task) == "Ada wrote it.\nWho?\nA. Ada\nB. Bob\n"
    assert perplexity.block(task.items[0]) == "Ada wrote it.\nQuestion: Who?\nAnswer:"
    assert perplexity.shot(task.items[0]) == "Ada wrote it.\nQuestion: Who?\nAnswer: Ada\n\n"


def test_more_options_than_there_are_letters_are_named(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "test.jsonl", [{"q": "?", "choices": list("abcdefghijk"), "right": 10, "topic": "x"}])
    with pytest.raises(UserError, match=r"test\.jsonl:1 has 11 options, and ABCDEFGHIJ are letters for 10"):
        load(tmp_path, SPEC)


def test_the_documentations_example_works_as_it_stands(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "protocols.md").read_text(encoding="utf-8")
    section = text[text.index("### A table with columns of its own") :]
    (spec,) = re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)[:1]
    (rows,) = re.findall(r"```json\n(.*?)```", section, re.DOTALL)[:1]
    (shown,) = re.findall(r"```text\n(.*?)```", section, re.DOTALL)[:1]
    assert len(spec.splitlines()) <= 10
    (tmp_path / "questions.jsonl").write_text(rows, encoding="utf-8")
    assert prompt(load(tmp_path, spec)) + "\n" == shown
