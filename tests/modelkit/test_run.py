from __future__ import annotations

from pathlib import Path

import pytest

from modelkit.errors import UserError
from modelkit.run import Run, RunInfo, Stage, find_runs, run_of

INFO = RunInfo(
    name="R",
    recipe="sha256:0",
    languages=["en"],
    stages=[Stage(name=n, kind=k, title={"en": n}) for n, k in (("sft", "sft"), ("rl", "rl"))],
)


def test_a_run_is_found_with_the_checkpoints_that_are_whole(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "runs" / "a", INFO)
    assert run.ready() == []
    (run.checkpoint("sft")).mkdir()
    (run.checkpoint("sft") / "config.json").write_text("{}")
    assert [stage.name for stage in run.ready()] == ["sft"]
    found = run_of(run.checkpoint("sft"))
    assert found is not None
    assert found.info == INFO
    assert [r.path for r in find_runs([tmp_path / "runs"])] == [run.path] == [r.path for r in find_runs([run.path])]


def test_a_damaged_run_is_named_and_left_out_of_a_listing(tmp_path: Path) -> None:
    Run.create(tmp_path / "good", INFO)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "run.json").write_text("{")
    with pytest.raises(UserError, match="is damaged"):
        Run.open(tmp_path / "bad")
    assert [run.path.name for run in find_runs([tmp_path])] == ["good"]
    with pytest.raises(UserError, match="is not a run"):
        Run.open(tmp_path)
