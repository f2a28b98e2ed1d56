"""A benchmark from the command's arguments to its result: what is quarantined, what is missing, what counts as official."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from evalkit.assembly import unofficial
from evalkit.notes import notes
from evalkit.planning import Wanted, narrowed
from evalkit.preparation import Settings
from evalkit.run import evaluate
from evalkit.tasks.ceval import OFFICIAL as CEVAL
from evalkit.tasks.mmlu import HENDRYCKS
from evalkit.types import ChoiceTask, Sample
from modelkit.run import Run
from tests.evalkit.answered import questions
from tests.evalkit.test_exams import agieval_data, gaokao_data
from tests.evalkit.test_protocols import ceval_data
from tests.evalkit.tiny import write_jsonl


def lines(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_quarantined_questions_are_unscored_with_the_rule_as_reason(tmp_path: Path, run: Run) -> None:
    data = agieval_data(tmp_path / "agieval")
    rows = [{"passage": None, "question": f"{i}?", "options": ["(A)1", "(B)2"], "label": label} for i, label in enumerate(["A", "AB", ""])]
    write_jsonl(data / "data/v1/gaokao-mathqa.jsonl", rows)
    done = evaluate(str(run.checkpoint("sft")), Wanted(["agieval"], data, methods=["letters"]), Settings(out=tmp_path / "out"))
    assert done.result is not None
    found = lines(tmp_path / "out" / "quarantine.jsonl")
    assert [(line["task"], line["file"], line["row"], line["rule"], line["action"]) for line in found] == [
        ("agieval@official", "gaokao-mathqa.jsonl", 1, "several answers to a question that should have one", "quarantined"),
        ("agieval@official", "gaokao-mathqa.jsonl", 2, "no answer", "quarantined"),
    ]
    assert found[0]["content"]["label"] == "AB"
    samples = {line["id"]: line for line in lines(tmp_path / "out" / "samples" / "agieval@official.jsonl")}
    assert samples["gaokao-mathqa/0"]["prediction"] in ("A", "B")
    assert samples["gaokao-mathqa/1"]["reason"] == "several answers to a question that should have one"
    assert samples["math/0"]["reason"] == "it has no options: only --method generate can ask it"
    task = done.result.tasks["agieval@official"]
    assert task.methods["letters"].unscored == 4
    assert task.unscored_reasons["no answer"] == 1


def test_a_score_without_all_subjects_is_not_called_official(tmp_path: Path, run: Run) -> None:
    ceval_data(tmp_path / "ceval")
    wanted = Wanted(["ceval"], tmp_path, shots=0)
    result = evaluate(str(run.checkpoint("sft")), wanted, Settings(out=tmp_path / "out")).result
    assert result is not None
    task = result.tasks["ceval@official"]
    assert (task.methods["letters"].official, len((task.model_extra or {})["missing_subjects"])) == (None, 51)
    assert task.methods["letters"].value == task.methods["letters"].macro
    (line,) = (line for line in notes(result) if "not the official number" in line)
    assert line.startswith("ceval@official · letters: not the official number: asked with 0 shots, not 5, 51 of its subjects missing (")


@pytest.mark.parametrize(
    ("fault", "limit", "reasons"),
    [
        ("", None, []),
        ("no answer", None, []),
        ("", 3, ["1 of its questions left out by --limit"]),
        ("", None, ["1 of its questions unscored"]),
    ],
)
def test_an_average_over_fewer_questions_is_not_called_official(fault: str, limit: int | None, reasons: list[str]) -> None:
    items = [replace(question, fault=fault) for question in questions("law", "ABCD")]
    task = narrowed(ChoiceTask("mmlu@hendrycks", "sha256:0", items, HENDRYCKS, {}, 5, ["letters"], expected=["law"]), None, limit)
    assert isinstance(task, ChoiceTask)
    samples = [Sample(item, "letters", reason=item.fault or None) for item in task.items]
    if "unscored" in "".join(reasons):
        samples[0].reason = "longer than 9 tokens even without shots"
    assert unofficial(task, "letters", samples, chat=False) == reasons


def test_an_average_of_questions_asked_otherwise_is_not_called_official() -> None:
    known = ChoiceTask("mmlu@hendrycks", "sha256:0", questions("law", "ABCD"), HENDRYCKS, {}, 0, ["perplexity"], expected=["law"])
    samples = [Sample(item, "perplexity") for item in known.items]
    assert unofficial(known, "perplexity", samples, chat=True) == [
        "measured by perplexity, not by letters",
        "asked with 0 shots, not 5",
        "asked through the model's chat template",
    ]
    assert unofficial(replace(known, protocol=CEVAL, shots=5), "letters", samples, chat=True) == []


def test_a_split_without_answers_has_predictions_and_no_score(tmp_path: Path, run: Run) -> None:
    ceval_data(tmp_path / "ceval")
    wanted = Wanted(["ceval"], tmp_path, shots=0, split="test")
    result = evaluate(str(run.checkpoint("sft")), wanted, Settings(out=tmp_path / "out")).result
    assert result is not None
    assert result.tasks["ceval@official"].methods["letters"].value is None
    (line,) = lines(tmp_path / "out" / "samples" / "ceval@official.jsonl")
    assert (line["id"], line["prediction"] in "ABCD", line["correct"], line["reason"]) == ("accountant/0", True, None, None)


def test_several_questions_of_one_prompt_are_answered_one_by_one(tmp_path: Path, run: Run) -> None:
    data = gaokao_data(tmp_path / "gaokao-bench")
    wanted = Wanted(["gaokao"], data, methods=["letters"])
    result = evaluate(str(run.checkpoint("sft")), wanted, Settings(out=tmp_path / "out")).result
    assert result is not None
    ids = [line["id"] for line in lines(tmp_path / "out" / "samples" / "gaokao@official.jsonl")]
    assert ids[:3] == ["2010-2022_Geography_MCQs/0.0", "2010-2022_Geography_MCQs/0.1", "2010-2022_Math_I_MCQs/0"]
    extra = result.tasks["gaokao@official"].model_extra or {}
    assert extra["majority"] > extra["chance"] > 0
    assert extra["majority_by_subject"]["2010-2022_Geography_MCQs"] == 0.5
