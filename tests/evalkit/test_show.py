"""`evalkit show`: the table again, subjects, answers, and everything on one question."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalkit.notes import notes
from evalkit.permutation import permuted, robustness
from evalkit.tasks.mmlu import HENDRYCKS
from evalkit.types import ChoiceTask
from tests.evalkit.answered import questions, result, sample, write
from tests.evalkit.command import assert_one_sentence, evalkit

GOLD = {"law": "ABCD", "physics": "AAAAA"}
ANSWERS = {"law": "ABC.", "physics": "ABBBB"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return result(tmp_path / "result", GOLD, ANSWERS, prompts=True, majority=0.4, approximate="shots are sampled").folder


def test_the_table_says_value_interval_and_what_guessing_scores(folder: Path) -> None:
    done = evalkit("show", folder)
    assert done.exit_code == 0, done.stderr
    for text in (
        "mmlu@hendrycks",
        "50.0%*",
        "21.5%–78.5%",
        "25.0%",
        "33.3%",
        "40.0%",
        "1 unscored: longer than 9 tokens",
        "approximate, since shots are sampled",
    ):
        assert text in done.stdout, text
    assert "mean confidence 70.0%, ECE 0.2" in done.stdout


def test_subjects_and_wrong_answers_are_listed(folder: Path) -> None:
    done = evalkit("show", folder, "--subject", "physics", "--wrong", "--limit", 3)
    assert [f"physics/{i}" in done.stdout for i in range(5)] == [False, True, True, True, False]
    assert "1 more: --limit 4 lists all." in done.stdout
    assert "20.0%" in done.stdout
    assert "law" not in done.stdout


def test_one_question_is_told_with_its_prompt_and_probabilities(folder: Path) -> None:
    done = evalkit("show", folder, "--id", "physics/1")
    for text in ("physics question 1?", "gold A · answer B · wrong", "B -0.3567 (70.0%)"):
        assert text in done.stdout
    assert "reason: longer than 9 tokens" in evalkit("show", folder, "--id", "law/3").stdout
    assert_one_sentence(evalkit("show", folder, "--id", "law/9"), "has no question 'law/9'")
    assert_one_sentence(evalkit("show", folder, "--subject", "art"), "no subject 'art': it has law, physics")


def test_a_result_without_prompts_says_how_to_keep_them(tmp_path: Path) -> None:
    result(tmp_path / "result", GOLD, ANSWERS)
    assert "run with --log-prompts" in evalkit("show", tmp_path / "result", "--id", "law/0").stdout


def test_permutations_are_summed_up_and_their_answers_stay_out_of_the_list(tmp_path: Path) -> None:
    task = permuted(ChoiceTask("mmlu@hendrycks", "sha256:0", questions("law", "AB"), HENDRYCKS, {}, 0, ["letters"]))
    recorded = write(tmp_path / "result", {"mmlu@hendrycks": [sample(one, "A") for one in task.items]})
    recorded.result.tasks["mmlu@hendrycks"].methods["letters"].permutation = robustness([sample(one, "A") for one in task.items])  # type: ignore[attr-defined]
    (line,) = [line for line in notes(recorded.result) if "every order" in line]
    assert "same text chosen in all orders 0.0%; chosen by place A 100.0%, B 0.0%" in line
    assert [line.id for line in recorded.lines("mmlu@hendrycks")] == ["law/0", "law/1"]
    assert len(recorded.lines("mmlu@hendrycks", permuted=True)) == 8


@pytest.mark.parametrize(("unparsed", "warned"), [(0, None), (5, False), (6, True)])
def test_unparsed_replies_are_shown_and_many_of_them_warned_of(tmp_path: Path, unparsed: int, warned: bool | None) -> None:
    recorded = result(tmp_path / "result", GOLD, ANSWERS)
    (score,) = (found for task in recorded.result.tasks.values() for found in task.methods.values())
    score.n, score.unparsed = 100, unparsed  # type: ignore[attr-defined]
    lines = [line for line in notes(recorded.result) if "state no answer" in line]
    assert [("before you trust" in line) for line in lines] == ([] if warned is None else [warned])


def test_a_subject_in_square_brackets_is_no_markup(tmp_path: Path) -> None:
    result(tmp_path / "result", {"[red]law[/]": "A"}, {"[red]law[/]": "B"})
    assert "[red]law[/]/0" in evalkit("show", tmp_path / "result", "--wrong").stdout
