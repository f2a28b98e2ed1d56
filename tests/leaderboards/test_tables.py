from __future__ import annotations

import csv
import io
from pathlib import Path

import pandas as pd

from leaderboards.board import make_board
from leaderboards.collect import collect
from leaderboards.tables import figures, to_csv
from tests.leaderboards.conftest import choice


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
        "judge": "",
        "setting": perplexity["setting"],
        "result": "a",
        "doubts": "",
        "seconds_per_question": "0.25",
    }
    assert (letters["method"], letters["value"], letters["ci95_low"], letters["seconds_per_question"]) == ("letters", "0.25", "", "")


def test_figures_say_which_reward_model_gave_them(tmp_path: Path, write_result) -> None:
    for judge in ("one", "two"):
        reward = {"kind": "reward", "data": "sha256:d", "methods": {"reward": {"value": -0.5, "n": 9, "metric": "reward"}}}
        write_result(tmp_path / judge, {"pocket.reward": reward | {"reward_model": f"sha256:{judge}"}})
    table = figures(make_board(collect([tmp_path])))
    assert sorted(table["judge"]) == ["sha256:one", "sha256:two"]
    assert table["setting"].nunique() == 2


def test_an_extra_of_several_types_is_a_text_that_parquet_takes(tmp_path: Path, write_result) -> None:
    for name, note in (("a", 3), ("b", "three"), ("c", True)):
        write_result(tmp_path / name, {"t": choice(0.5, note=note)}, name, f"sha256:{name}")
    figures(make_board(collect([tmp_path]))).to_parquet(tmp_path / "figures.parquet")
    assert sorted(pd.read_parquet(tmp_path / "figures.parquet")["note"]) == ["3", "True", "three"]


def test_no_text_in_the_csv_is_taken_for_a_formula_and_negative_numbers_stay_numbers() -> None:
    table = pd.DataFrame({"=model": ["=1+1", "+a", "-a", "@a", "a=b"], "value": [-0.5, 0.0, 1.0, 2.0, 3.0]})
    assert to_csv(table).splitlines() == ["'=model,value", "'=1+1,-0.5", "'+a,0.0", "'-a,1.0", "'@a,2.0", "a=b,3.0"]
