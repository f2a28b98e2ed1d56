from __future__ import annotations

from pathlib import Path

import pytest

from leaderboards.collect import collect
from modelkit.errors import UserError
from tests.leaderboards.conftest import choice


def test_runs_folders_of_runs_and_folders_of_results_are_all_read_once(tmp_path: Path, make_run, write_result) -> None:
    run = make_run(tmp_path / "runs" / "pocket")
    write_result(run.evaluations() / "a", {"t": choice(0.5)})
    write_result(tmp_path / "results" / "b", {"t": choice(0.5)})
    found = collect([tmp_path / "runs", run.path, tmp_path / "results", tmp_path / "results" / "b"])
    assert sorted(result.result.id for result in found.results) == ["a", "b"]
    assert [result.stage.name if result.stage else None for result in found.results] == ["sft", None]


def test_damaged_files_are_named_and_the_others_read(tmp_path: Path, make_run, write_result) -> None:
    run = make_run(tmp_path / "pocket")
    write_result(run.evaluations() / "good", {"t": choice(0.5)})
    write_result(run.evaluations() / "cut", {"t": choice(0.5)}).write_text('{"format": 1, "id": "cu')
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text("{}")
    found = collect([tmp_path])
    assert [result.result.id for result in found.results] == ["good"]
    assert len(found.damaged) == 2
    assert "broken/run.json" in found.damaged[0]
    assert "cut/results.json" in found.damaged[1]


def test_a_half_made_result_folder_is_passed_over(tmp_path: Path, make_run, write_result) -> None:
    for parent in (tmp_path / "results", make_run(tmp_path / "pocket").evaluations()):
        write_result(parent / "good", {"t": choice(0.5)})
        write_result(parent / ".good.77.tmp", {"t": choice(0.5)})
        (parent / ".good.77.tmp" / "judging.json").write_text("{}")
    found = collect([tmp_path / "results", tmp_path / "pocket"])
    assert ([result.result.id for result in found.results], found.judgings) == (["good", "good"], [])


def test_a_missing_folder_and_one_without_results_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder at .*missing"):
        collect([tmp_path / "missing"])
    with pytest.raises(UserError, match="no results below .*evalkit run"):
        collect([tmp_path])
