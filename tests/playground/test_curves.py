from __future__ import annotations

import json
import os
import time
from pathlib import Path

from playground.training.curves import LogReader, Progress, RunWatch, thinned


def line(**event: object) -> str:
    return json.dumps(event) + "\n"


def test_an_unfinished_last_line_is_read_once_it_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "sft.jsonl"
    whole = line(event="step", step=1, loss=2.0)
    file.write_text(whole + whole.replace("1", "2")[:20])
    reader = LogReader(file)
    reader.poll()
    assert reader.log.points["loss"] == [(1, 2.0)]
    reader.poll()
    assert reader.log.skipped == 0
    file.write_text(whole + line(event="step", step=2, loss=1.5))
    reader.poll()
    assert reader.log.points["loss"] == [(1, 2.0), (2, 1.5)]


def test_a_log_cut_back_by_a_resume_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "base.jsonl"
    file.write_text("".join(line(event="step", step=step, loss=float(step)) for step in range(1, 6)))
    reader = LogReader(file)
    reader.poll()
    file.write_text("".join(line(event="step", step=step, loss=10.0 * step) for step in range(1, 9)))
    reader.poll()
    assert reader.log.points["loss"] == [(step, 10.0 * step) for step in range(1, 9)]
    file.write_text(line(event="step", step=1, loss=3.0))
    reader.poll()
    assert reader.log.points["loss"] == [(1, 3.0)]


def test_a_step_that_comes_again_replaces_what_followed_it(tmp_path: Path) -> None:
    file = tmp_path / "rl.jsonl"
    steps = [1, 2, 3, 2]
    file.write_text("".join(line(event="step", step=step, kl=float(i)) for i, step in enumerate(steps)))
    reader = LogReader(file)
    reader.poll()
    assert reader.log.points["kl"] == [(1, 0.0), (2, 3.0)]


def test_lines_that_are_no_json_objects_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "sft.jsonl"
    file.write_text("nonsense\n[1]\n\n" + line(event="step", step=1, loss=1.0))
    reader = LogReader(file)
    reader.poll()
    assert (reader.log.skipped, reader.log.points["loss"]) == (2, [(1, 1.0)])


def test_a_missing_log_is_not_an_error(tmp_path: Path) -> None:
    reader = LogReader(tmp_path / "none.jsonl")
    reader.poll()
    assert reader.log.points == {}


def test_samples_keep_stage_step_and_reward(tmp_path: Path) -> None:
    file = tmp_path / "rl.jsonl"
    file.write_text(line(event="sample", step=4, samples=[{"prompt": "p", "reply": "r", "reward": 0.5}, {"prompt": "q", "reply": "s"}]))
    reader = LogReader(file)
    reader.poll()
    first, second = reader.log.samples[0]
    assert (first.stage, first.step, first.prompt, first.reply, first.reward) == ("rl", 4, "p", "r", 0.5)
    assert second.reward is None


def test_thinned_points_keep_the_mean_and_the_last_step() -> None:
    points = [(step, float(step)) for step in range(1, 1001)]
    fewer = thinned(points, 100)
    assert len(fewer) == 100
    assert fewer[-1][0] == 1000
    assert sum(value for _, value in fewer) / 100 == 500.5
    assert thinned(points[:50], 100) == points[:50]


def test_a_trainer_is_alive_only_while_its_process_is_and_says_so() -> None:
    fresh = Progress(state="running", pid=os.getpid(), time=time.time())
    assert fresh.alive
    assert not fresh.model_copy(update={"time": time.time() - 60}).alive
    assert not fresh.model_copy(update={"state": "stopped"}).alive
    assert not fresh.model_copy(update={"pid": 2**22 + 1}).alive


def test_a_finished_run_has_its_logs_and_its_report_and_no_trainer(finished_run: Path) -> None:
    watch = RunWatch(finished_run)
    watch.poll()
    assert list(watch.logs) == ["tokenizer", "base", "sft", "rm", "rl"]
    assert watch.report
    assert not watch.alive


def test_our_own_trainer_may_be_silent_for_long(tmp_path: Path) -> None:
    (tmp_path / "progress.json").write_text(json.dumps({"state": "running", "pid": os.getpid(), "time": time.time() - 100}))
    for at_work in (False, True):
        watch = RunWatch(tmp_path, lambda at_work=at_work: at_work)  # type: ignore[misc]
        watch.poll()
        assert watch.alive == at_work
