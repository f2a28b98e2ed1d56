from __future__ import annotations

from pathlib import Path

import yaml
from typer.testing import CliRunner

from leaderboards.cli import app
from tests.leaderboards.conftest import choice


def test_build_prints_the_table_and_writes_the_csv_and_the_page(tmp_path: Path, make_run, write_result) -> None:
    run = make_run(tmp_path / "runs" / "pocket")
    write_result(run.evaluations() / "a", {"pocket.choice": choice(0.9)})
    write_result(run.evaluations() / "cut", {"pocket.choice": choice(0.9)}).write_text("{")
    done = CliRunner().invoke(app, ["build", str(tmp_path / "runs"), "--out", str(tmp_path / "site")])
    assert done.exit_code == 0
    for expected in ("pocket · SFT", "90.0 %", "[85.0, 95.0]", "chance 25.0 %", "cut/results.json", "read: 1, left out: 1"):
        assert expected in done.output
    assert sorted(file.name for file in (tmp_path / "site").iterdir()) == [
        "index.html",
        "leaderboard.csv",
        "leaderboard.json",
        "leaderboard.parquet",
        "plotly.min.js",
    ]


def test_nothing_is_written_when_no_result_can_be_read(tmp_path: Path, write_result) -> None:
    write_result(tmp_path / "results" / "cut", {"t": choice(0.9)}).write_text("{")
    done = CliRunner().invoke(app, ["build", str(tmp_path / "results"), "--out", str(tmp_path / "site")])
    assert done.exit_code == 2
    assert "none of the 1 files found could be read" in done.stderr
    assert not (tmp_path / "site").exists()


def test_bad_paths_get_one_sentence(tmp_path: Path, write_result) -> None:
    write_result(tmp_path / "results" / "a", {"t": choice(0.9)})
    file = tmp_path / "file"
    file.write_text("")
    for arguments, expected in (
        ([str(tmp_path / "missing")], "no folder at"),
        ([str(file)], "none of the 1 files found could be read"),
        ([str(tmp_path / "results"), "--out", str(file)], "is a file"),
    ):
        done = CliRunner().invoke(app, ["build", *arguments])
        assert done.exit_code == 2
        assert expected in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_publishing_prints_what_would_go_and_sends_nothing_when_dry(tmp_path: Path, write_result) -> None:
    write_result(tmp_path / "results" / "a", {"t": choice(0.9)})
    site = str(tmp_path / "site")
    assert CliRunner().invoke(app, ["build", str(tmp_path / "results"), "--out", site]).exit_code == 0
    done = CliRunner().invoke(app, ["publish", site, "--to", "hf:org/board", "--dry-run"])
    assert done.exit_code == 0
    assert [line.split()[-1] for line in done.output.splitlines() if "bytes" in line] == [
        "README.md",
        "leaderboard.csv",
        "leaderboard.json",
        "leaderboard.parquet",
        "README.md",
        "index.html",
        "plotly.min.js",
    ]
    wrong = CliRunner().invoke(app, ["publish", site, "--to", "board", "--dry-run"])
    assert (wrong.exit_code, "hf:ORG/NAME" in wrong.stderr) == (2, True)


def test_a_model_s_results_become_the_metadata_of_its_card(tmp_path: Path, write_result) -> None:
    write_result(tmp_path / "results" / "a", {"mmlu@hendrycks": {**choice(0.5), "shots": 5}})
    done = CliRunner().invoke(app, ["card", str(tmp_path / "results"), "-m", "sft"])
    index = yaml.safe_load(done.output.strip().strip("-"))["model-index"]
    assert index[0]["results"][0]["dataset"] == {"type": "mmlu", "name": "mmlu@hendrycks", "args": {"num_few_shot": 5}}
    assert index[0]["results"][0]["metrics"][0]["value"] == 0.5


def test_the_card_s_model_is_named_by_path_run_and_stage_title_or_fingerprint(tmp_path: Path, make_run, write_result) -> None:
    run = make_run(tmp_path / "pocket")
    write_result(run.evaluations() / "a", {"t": choice(0.25)}, "/elsewhere/then/sft", "sha256:5f5f5f5f5f")
    write_result(run.evaluations() / "b", {"t": choice(0.75)}, "/elsewhere/then/rl", "sha256:71717171")

    def card(model: str) -> str:
        done = CliRunner().invoke(app, ["card", str(run.path), "-m", model])
        return str(yaml.safe_load(done.output.strip().strip("-"))["model-index"][0]["name"]) if done.exit_code == 0 else done.stderr

    names = (str(run.path / "sft"), "pocket/sft", "pocket · SFT", "sha256:5f5f5f5f5f", "5f5f5f5f", "/elsewhere/then/sft")
    assert [card(name) for name in names] == ["sft"] * len(names)
    assert card("nobody") == "error: no model here is called nobody: name one of pocket · SFT, pocket · RL.\n"
