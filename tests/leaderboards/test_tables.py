from __future__ import annotations

import csv
import io
from pathlib import Path

import pandas as pd

from leaderboards.board import make_board
from leaderboards.collect import collect
from leaderboards.tables import figures, leaderboard, to_csv
from tests.leaderboards.conftest import choice


def test_the_tab_s_table_has_the_model_first_and_texts_in_its_language(tmp_path: Path, make_run, write_result) -> None:
    run = make_run(tmp_path / "pocket")
    write_result(run.evaluations() / "a", {"pocket.choice": choice(0.9, unscored=2)})
    english, chinese = leaderboard([run]), leaderboard([run], "zh")
    head = "pocket.choice · perplexity · 0-shot · n = 200 · chance 25.0 %"
    assert english.to_dict("records") == [{"Model": "pocket · SFT", head: "90.0 % [85.0, 95.0] 2 unscored"}]
    assert chinese.to_dict("records") == [
        {"模型": "pocket · 监督微调", "pocket.choice · 逐选项困惑度 · 0 样本 · n = 200 · 随机 25.0 %": "90.0 % [85.0, 95.0] 2 题未评分"}
    ]


def test_runs_without_results_give_an_empty_table_with_a_head(tmp_path: Path, make_run) -> None:
    for runs in ([], [make_run(tmp_path / "pocket")]):
        table = leaderboard(runs)
        assert list(table.columns) == ["Model"]
        assert table.empty


def test_the_csv_holds_every_figure_of_every_method(tmp_path: Path, write_result) -> None:
    task = choice(0.5, micro=0.5, macro=0.52, official="micro", seconds_per_question=0.25)
    task["methods"]["letters"] = {"value": 0.25, "n": 200}
    write_result(tmp_path / "a", {"mmlu@hendrycks": {**task, "shots": 5}})
    rows = list(csv.DictReader(io.StringIO(to_csv(figures(make_board(collect([tmp_path])))))))
    perplexity, letters = rows
    assert perplexity == {
        "model": "sft",
        "run": "",
        "stage": "",
        "path": "sft",
        "fingerprint": "sha256:0123456789",
        "dtype": "fp32",
        "task": "mmlu",
        "protocol": "hendrycks",
        "kind": "choice",
        "method": "perplexity",
        "shots": "5",
        "chat": "False",
        "metric": "accuracy",
        "value": "0.5",
        "ci95_low": "0.45",
        "ci95_high": "0.55",
        "n": "200",
        "unscored": "0",
        "chance": "0.25",
        "micro": "0.5",
        "macro": "0.52",
        "official": "micro",
        "data": "sha256:aaaaaaaa1",
        "result": "a",
        "doubts": "",
        "seconds_per_question": "0.25",
    }
    assert (letters["method"], letters["value"], letters["ci95_low"], letters["seconds_per_question"]) == ("letters", "0.25", "", "")


def test_no_text_in_the_csv_is_taken_for_a_formula_and_negative_numbers_stay_numbers() -> None:
    table = pd.DataFrame({"model": ["=1+1", "+a", "-a", "@a", "a=b"], "value": [-0.5, 0.0, 1.0, 2.0, 3.0]})
    assert to_csv(table).splitlines() == ["model,value", "'=1+1,-0.5", "'+a,0.0", "'-a,1.0", "'@a,2.0", "a=b,3.0"]
