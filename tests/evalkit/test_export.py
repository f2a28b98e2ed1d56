"""Exports: lm-evaluation-harness's files, key by key and by its own reader where that is installed, and CSV."""

from __future__ import annotations

import csv
import json
import math
import statistics
from pathlib import Path

import pytest

from evalkit.export import to_csv, to_lm_eval
from evalkit.recorded import Recorded
from tests.evalkit.answered import questions, result, sample, write
from tests.evalkit.command import assert_one_sentence, evalkit

GOLD = {"law": "ABCD", "physics": "AAAAAA"}
ANSWERS = {"law": "ABC.", "physics": "ABBBBA"}
RESULT_KEYS = {
    *("results", "groups", "group_subtasks", "configs", "versions", "n-shot", "higher_is_better", "n-samples", "config", "git_hash"),
    *("date", "pretty_env_info", "transformers_version", "tokenizer_pad_token", "tokenizer_eos_token", "tokenizer_bos_token"),
    *("eot_token_id", "max_length", "model_source", "model_name", "model_name_sanitized", "system_instruction"),
    *("system_instruction_sha", "chat_template", "chat_template_sha", "fewshot_as_multiturn", "task_hashes"),
    "total_evaluation_time_seconds",
}
CONFIG_KEYS = {
    *("model", "model_args", "model_dtype", "model_revision", "model_sha", "batch_size", "batch_sizes", "device", "use_cache"),
    *("limit", "bootstrap_iters", "gen_kwargs", "random_seed", "numpy_seed", "torch_seed", "fewshot_seed"),
}
SAMPLE_KEYS = {
    *("doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics", "doc_hash", "prompt_hash", "target_hash"),
    "acc",
}


@pytest.fixture
def recorded(tmp_path: Path) -> Recorded:
    return result(tmp_path / "result", GOLD, ANSWERS, prompts=True)


def test_results_have_the_keys_and_names_of_the_harness(recorded: Recorded, tmp_path: Path) -> None:
    file, *samples = to_lm_eval(recorded, tmp_path / "out")
    made = json.loads(file.read_text(encoding="utf-8"))
    assert made.keys() >= RESULT_KEYS
    assert made["config"].keys() == CONFIG_KEYS
    assert made["results"].keys() == {"mmlu", "mmlu_law", "mmlu_physics"}
    assert made["groups"] == {"mmlu": made["results"]["mmlu"]}
    assert made["group_subtasks"]["mmlu"] == ["mmlu_law", "mmlu_physics"]
    assert made["n-samples"]["mmlu_law"] == {"original": 4, "effective": 4}
    assert made["configs"]["mmlu_law"]["metadata"]["protocol"] == "hendrycks"
    assert file.parent.name == "models__tiny"
    assert [path.name.split("_2")[0] for path in samples] == ["samples_mmlu_law", "samples_mmlu_physics"]


def test_accuracies_and_standard_errors_are_those_of_the_harness(recorded: Recorded, tmp_path: Path) -> None:
    made = json.loads(to_lm_eval(recorded, tmp_path / "out")[0].read_text(encoding="utf-8"))["results"]
    law, physics = [1.0, 1.0, 1.0], [1.0, 0.0, 0.0, 0.0, 0.0, 1.0]
    assert made["mmlu_physics"]["acc,none"] == pytest.approx(statistics.fmean(physics))
    errors = [statistics.stdev(values) / len(values) ** 0.5 for values in (law, physics)]
    assert [made[f"mmlu_{name}"]["acc_stderr,none"] for name in ("law", "physics")] == pytest.approx(errors)
    assert made["mmlu"]["acc,none"] == pytest.approx(5 / 9)
    assert made["mmlu"]["acc_macro,none"] == pytest.approx((1 + 1 / 3) / 2)
    pooled = sum((n - 1) * error**2 * n for n, error in zip((3, 6), errors, strict=True)) / (9 - 2)
    assert made["mmlu"]["acc_stderr,none"] == pytest.approx(math.sqrt(pooled / 9))


def test_samples_have_a_request_for_each_letter_and_leave_out_what_is_unscored(recorded: Recorded, tmp_path: Path) -> None:
    _, law, physics = to_lm_eval(recorded, tmp_path / "out")
    rows = [json.loads(line) for line in physics.read_text(encoding="utf-8").splitlines()]
    assert [row["acc"] for row in rows] == [1.0, 0.0, 0.0, 0.0, 0.0, 1.0]
    assert rows[1].keys() == SAMPLE_KEYS
    assert (rows[1]["doc_id"], rows[1]["target"], rows[1]["filter"], rows[1]["metrics"]) == (1, "0", "none", ["acc"])
    assert rows[1]["arguments"]["gen_args_2"] == {"arg_0": "physics question 1?\nAnswer:", "arg_1": "C"}
    assert rows[1]["filtered_resps"][1] == [str(math.log(0.7)), "True"]
    assert rows[1]["resps"] == [[answer] for answer in rows[1]["filtered_resps"]]
    assert len(law.read_text(encoding="utf-8").splitlines()) == 3


def test_two_protocols_of_one_benchmark_keep_their_names(tmp_path: Path) -> None:
    lines = [sample(question, "A") for question in questions("law", "AA")]
    recorded = write(tmp_path / "result", {"mmlu@hendrycks": lines, "mmlu@lm-eval": lines})
    made = json.loads(to_lm_eval(recorded, tmp_path / "out")[0].read_text(encoding="utf-8"))
    assert made["results"].keys() == {"mmlu@hendrycks", "mmlu@lm-eval"}


def test_the_harness_reads_its_own_format(recorded: Recorded, tmp_path: Path) -> None:
    reader = pytest.importorskip("lm_eval.utils", reason="lm-evaluation-harness is not installed")
    files = [str(path) for path in to_lm_eval(recorded, tmp_path / "out")]
    (latest,) = reader.get_results_filenames(files)
    table = reader.make_table(json.loads(Path(latest).read_text(encoding="utf-8")))
    assert "- physics" in table
    assert "0.5556" in table
    assert {reader.get_file_task_name(Path(file).name) for file in reader.get_sample_results_filenames(files)} == {
        "mmlu_law",
        "mmlu_physics",
    }


def test_csv_has_a_row_for_each_answer(recorded: Recorded, tmp_path: Path) -> None:
    (file,) = to_csv(recorded, tmp_path / "answers.csv")
    rows = list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 10
    assert (rows[3]["id"], rows[3]["prediction"], rows[3]["reason"]) == ("law/3", "", "longer than 9 tokens even without shots")
    assert float(rows[4]["score_A"]) == pytest.approx(math.log(0.7))


def test_the_command_says_where_the_files_are_and_what_was_left_out(recorded: Recorded, tmp_path: Path) -> None:
    done = evalkit("export", recorded.folder, "--format", "lm-eval", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    assert "1 unscored answers" in done.stdout
    assert "3 files" in done.stdout
    assert evalkit("export", recorded.folder, "--format", "csv").exit_code == 0
    assert (recorded.folder / "answers.csv").is_file()
    assert_one_sentence(evalkit("export", recorded.folder, "--format", "xml"), "'xml' is no format", "lm-eval or csv")
