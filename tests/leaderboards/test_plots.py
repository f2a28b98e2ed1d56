"""What the plots are drawn from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from leaderboards.board import make_board
from leaderboards.collect import collect
from leaderboards.plots import plots
from leaderboards.training import reward_and_kl
from modelkit.run import Run, Stage
from tests.leaderboards.conftest import choice


def test_a_step_without_a_finite_reward_has_no_point(tmp_path: Path, make_run) -> None:
    run = make_run(tmp_path / "pocket")
    steps = [(0.5, 1.0), (None, 2.0), (3.0, None), (4.0, 5.0)]
    run.log("rl").parent.mkdir()
    run.log("rl").write_text("".join(json.dumps({"event": "step", "kl": kl, "reward": reward}) + "\n" for kl, reward in steps))
    assert reward_and_kl(run, "rl") == [(0.5, 1.0), (4.0, 5.0)]


def test_a_copy_is_compared_with_the_stage_of_its_own_run(tmp_path: Path, make_run, write_result) -> None:
    small = Stage(name="rl-4bit", kind="rl", title={"en": "RL, 4 bits"}, copy_of="rl")
    for place, folder in enumerate(("first", "second")):
        run: Run = make_run(tmp_path / folder / "pocket").with_stage(small)
        for stage, value in (("rl", 0.5), ("rl-4bit", 0.4)):
            tasks = {"t": choice(value + place / 4), "unscored": choice(None if stage == "rl" else 0.5, unscored=200)}
            write_result(run.evaluations() / stage, tasks, stage, f"sha256:{folder}{stage}")
    board = make_board(collect([tmp_path / "first", tmp_path / "second"]))
    [plot] = [plot for plot in plots(board) if plot.id == "four-bits"]
    before, after = plot.make("en").data
    assert (list(before.y), list(after.y)) == (pytest.approx([50.0, 75.0]), pytest.approx([40.0, 65.0]))
    assert [label.split(" · ")[0] for label in before.x] == ["first/pocket", "second/pocket"]


def test_the_cost_of_a_question_is_of_results_that_count_their_operations(tmp_path: Path, write_result) -> None:
    counted = write_result(tmp_path / "a", {"t": choice(0.5, n=100)})
    content = json.loads(counted.read_text())
    content["speed"]["flops"] = 200e9
    counted.write_text(json.dumps(content))
    write_result(tmp_path / "b", {"judged": {"kind": "judge", "data": "sha256:d", "methods": {"score": {"value": 5.0, "n": 900}}}})
    [plot] = [plot for plot in plots(make_board(collect([tmp_path]))) if plot.id == "cost"]
    assert list(plot.make("en").data[0].x) == [2.0]
