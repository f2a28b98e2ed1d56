from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from leaderboards.board import make_board
from leaderboards.collect import collect
from leaderboards.reading import read
from modelkit.errors import DataError
from tests.leaderboards.conftest import choice

LIGHTEVAL: dict[str, Any] = {
    "config_general": {"model_name": "org/model", "model_dtype": "torch.bfloat16", "start_time": 12.5},
    "results": {
        "leaderboard|mmlu:anatomy|5|0": {"acc": 0.25, "acc_stderr": 0.05},
        "leaderboard|mmlu:virology|5|0": {"acc": 0.75, "acc_stderr": 0.05},
        "leaderboard|mmlu:_average|5|0": {"acc": 0.5, "acc_stderr": 0.04},
        "lighteval|gsm8k|0": {"extractive_match": 0.125, "extractive_match_stderr": 0.01},
        "all": {"acc": 0.5},
    },
    "config_tasks": {
        "leaderboard|mmlu:anatomy": {"effective_num_docs": 100},
        "leaderboard|mmlu:virology": {"effective_num_docs": 50},
        "lighteval|gsm8k|0": {"effective_num_docs": 1319},
    },
    "versions": {"leaderboard|mmlu:anatomy|5|0": 0},
}
OPENCOMPASS = """dataset,version,metric,mode,alpha,beta
--------- Exam ---------,-,-,-,-,-
lukaemon_mmlu_anatomy,a1b2c3,accuracy,ppl,30.00,40.00
lukaemon_mmlu_virology,a1b2c3,accuracy,ppl,50.00,60.00
mmlu,-,naive_average,ppl,40.00,50.00
gsm8k,1d7fe4,accuracy,gen,12.50,-
"""


def test_lighteval_s_subsets_become_subjects_and_its_errors_intervals(tmp_path: Path) -> None:
    file = tmp_path / "results_2025.json"
    file.write_text(json.dumps(LIGHTEVAL))
    [result], notes = read(file)
    mmlu, gsm = result.tasks["mmlu@lighteval"], result.tasks["gsm8k@lighteval"]
    assert (result.model.path, result.model.dtype, notes) == ("org/model", "bfloat16", [])
    assert (mmlu.shots, mmlu.methods["acc"].n, mmlu.methods["acc"].value) == (5, 150, 0.5)
    assert mmlu.methods["acc"].micro == pytest.approx((25 + 37.5) / 150)
    assert set(mmlu.methods["acc"].subjects) == {"anatomy", "virology"}
    assert (gsm.kind, gsm.methods["extractive_match"].n) == ("answer", 1319)
    assert mmlu.methods["acc"].ci95 == pytest.approx((0.4216, 0.5784), abs=1e-3)


def test_opencompass_summary_gives_each_model_a_result_and_names_what_is_missing(tmp_path: Path) -> None:
    file = tmp_path / "summary_20250101.csv"
    file.write_text(OPENCOMPASS)
    results, notes = read(file)
    assert [result.model.path for result in results] == ["alpha", "beta"]
    mmlu = results[1].tasks["mmlu@opencompass"].methods["ppl"]
    assert (mmlu.value, mmlu.official, sorted(mmlu.subjects)) == (0.5, "macro", ["lukaemon_mmlu_anatomy", "lukaemon_mmlu_virology"])
    assert results[0].tasks["gsm8k@opencompass"].methods["gen"].value == 0.125
    assert "gsm8k@opencompass" not in results[1].tasks
    assert len(notes) == 1
    assert "beta has no figure for 1 rows" in notes[0]


def test_other_harnesses_scores_are_marked_and_never_share_a_column_with_ours(tmp_path: Path, write_result) -> None:
    write_result(tmp_path / "ours", {"mmlu@hendrycks": {**choice(0.5), "shots": 5}})
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "results_2025.json").write_text(json.dumps(LIGHTEVAL))
    board = make_board(collect([tmp_path]))
    cells = [cell for row in board.cells for cell in row if cell]
    assert len(cells) == len(board.columns) == 3
    marked = [any(doubt.name == "other_protocol" for doubt in cell.doubts) for cell in cells]
    assert sorted(marked) == [False, True, True]


def test_a_newer_format_a_cut_file_and_another_layout_are_told_in_a_sentence(tmp_path: Path) -> None:
    for text, expected in (
        ('{"format": 1, "id": "x', "cut off"),
        ('{"format": 7, "id": "x"}', "has format 7, this version reads 1"),
        ("[]", "holds no JSON object"),
        ('{"a": 1}', "laid out like none of"),
        (OPENCOMPASS.splitlines()[0] + "\n", "has no figure of any model"),
        (json.dumps({"results": {"a|0": 3}, "config_general": []}), "looks like lighteval"),
    ):
        file = tmp_path / "results_x.json"
        file.write_text(text)
        with pytest.raises(DataError, match=expected):
            read(file)


def test_two_results_with_one_id_are_both_shown_and_flagged(tmp_path: Path, write_result) -> None:
    write_result(tmp_path / "one" / "x", {"t": choice(0.5)}, "a", "sha256:a")
    write_result(tmp_path / "two" / "x", {"t": choice(0.6)}, "b", "sha256:b")
    collection = collect([tmp_path / "one", tmp_path / "two"])
    assert collection.twins == {"x"}
    doubts = [doubt.name for row in make_board(collection).cells for cell in row if cell for doubt in cell.doubts]
    assert doubts == ["shared_id", "shared_id"]


def test_what_is_not_finite_is_no_figure_and_is_told(tmp_path: Path, write_result) -> None:
    file = write_result(tmp_path / "x", {"t": choice(0.5), "u": choice(0.5)})
    file.write_text(file.read_text().replace("0.5", "NaN", 1))
    [result], notes = read(file)
    assert result.tasks["t"].methods["perplexity"].value is None
    assert result.tasks["u"].methods["perplexity"].value == 0.5
    assert notes == ["sft has nan for t by perplexity, which is no figure."]


def test_a_file_that_lm_eval_itself_wrote_is_read_group_by_group() -> None:
    """lm-eval 0.4.13 on a tiny model; only ``pretty_env_info`` and the folder of its tasks were taken out of the file."""
    [file] = (Path(__file__).parent / "data").glob("results_*.json")
    [result], notes = read(file)
    assert notes == []
    assert (result.model.path, result.model.dtype) == ("./model", "float32")
    assert sorted(result.tasks) == ["tiny_prose@lm-eval", "tiny_sums@lm-eval", "tiny_world@lm-eval"]
    world, sums, prose = (result.tasks[f"tiny_{name}@lm-eval"] for name in ("world", "sums", "prose"))
    accuracy = world.methods["acc"]
    assert (world.kind, world.shots, accuracy.n, accuracy.official) == ("choice", 1, 13, "micro")
    assert accuracy.value == pytest.approx(6 / 13)
    assert accuracy.macro == pytest.approx((1 / 4 + 2 / 3 + 3 / 6) / 3)
    assert {name: (one.n, one.accuracy) for name, one in accuracy.categories.items()} == {
        "tiny_nature": (7, pytest.approx(3 / 7)),
        "tiny_people": (6, 0.5),
    }
    assert set(accuracy.subjects) == {"tiny_animals", "tiny_colours", "tiny_capitals"}
    low, high = accuracy.ci95 or (0.0, 0.0)
    assert (high - low) / 2 == pytest.approx(1.96 * 0.149786, abs=1e-3)
    assert (sums.kind, sums.methods["exact_match (first-number)"].value, sums.methods["exact_match (first-number)"].n) == ("answer", 0.0, 3)
    assert (prose.kind, prose.methods["bits_per_byte"].value) == ("text", pytest.approx(5.965, abs=1e-3))
    assert prose.methods["bits_per_byte"].ci95 is None


def test_other_weights_under_one_name_are_other_models(tmp_path: Path) -> None:
    [file] = (Path(__file__).parent / "data").glob("results_*.json")
    content = json.loads(file.read_text())
    configs = [{}, {"model_revision": "step1000"}, {"model_args": "pretrained=./model,load_in_4bit=True"}]
    for place, more in enumerate(configs):
        (tmp_path / f"results_{place}.json").write_text(json.dumps({**content, "config": content["config"] | more}))
    revised = {**LIGHTEVAL, "config_general": {**LIGHTEVAL["config_general"], "model_config": {"revision": "step5"}}}
    (tmp_path / "results_lighteval.json").write_text(json.dumps(revised))
    rows = make_board(collect([tmp_path])).rows
    assert sorted((row.fingerprint.removeprefix("unverified:"), row.dtype) for row in rows) == [
        ("./model", "4bit"),
        ("./model", "float32"),
        ("./model@step1000", "float32"),
        ("org/model@step5", "bfloat16"),
    ]


def test_a_system_instruction_makes_another_column(tmp_path: Path) -> None:
    [file] = (Path(__file__).parent / "data").glob("results_*.json")
    content = json.loads(file.read_text())
    board = make_board(collect([file]))
    for place, sha in enumerate((None, "5f1b")):
        (tmp_path / f"results_{place}.json").write_text(json.dumps({**content, "system_instruction_sha": sha}))
    both = make_board(collect([tmp_path]))
    assert (len(both.rows), len(both.columns)) == (1, 2 * len(board.columns))


def test_an_average_over_other_prompts_makes_another_column(tmp_path: Path) -> None:
    (tmp_path / "summary_1.csv").write_text(OPENCOMPASS)
    (tmp_path / "summary_2.csv").write_text(OPENCOMPASS.replace("a1b2c3", "ffffff").replace("alpha,beta", "gamma,delta"))
    columns = make_board(collect([tmp_path])).columns
    assert sorted(column.task for column in columns) == ["gsm8k@opencompass", "mmlu@opencompass", "mmlu@opencompass"]


def test_what_lm_eval_says_of_a_metric_decides_which_value_is_best(tmp_path: Path) -> None:
    [file] = (Path(__file__).parent / "data").glob("results_*.json")
    for place, bias in enumerate((0.5, 0.75)):
        content = json.loads(file.read_text()) | {"model_name": f"model-{place}", "group_subtasks": {}, "groups": {}}
        content["results"] = {"tiny_prose": {"pct_stereotype,none": bias}}
        content["higher_is_better"] = {"tiny_prose": {"pct_stereotype": False}}
        (tmp_path / f"results_{place}.json").write_text(json.dumps(content))
    board = make_board(collect([tmp_path]))
    assert [(row.fingerprint, cells[0].best) for row, cells in zip(board.rows, board.cells, strict=True) if cells[0]] == [
        ("unverified:model-0", True),
        ("unverified:model-1", False),
    ]
