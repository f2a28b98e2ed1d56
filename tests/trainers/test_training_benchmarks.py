"""The benchmarks of training run to their ends at a tiny size: commands, tables, figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.curves import Curve, write
from benchmarks.train_ours import per_step
from trainers.data.order import steps

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str | Path) -> str:
    done = subprocess.run([sys.executable, "-m", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_our_side_of_every_stage_is_measured_on_random_tokens(tmp_path: Path) -> None:
    shown = run("benchmarks.train_vs_trl", "--work", tmp_path, "--synthetic", "--threads", "1")
    for wanted in ("sft: bar 1.3", "rm: bar 1.3", "ppo: bar 3.0", "rollout, different lengths", "scoring", "update"):
        assert wanted in shown
    runs = [json.loads(line) for line in (tmp_path / "runs.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [one["stage"] for one in runs] == ["sft", "rm", "ppo", "generation"]
    slices = json.loads((tmp_path / "slices.json").read_text(encoding="utf-8"))
    assert runs[2]["rows"] == len(slices["ppo"])


@pytest.mark.slow
def test_the_gpu_benchmark_runs_on_a_cpu_with_its_smallest_shape() -> None:
    shown = run("benchmarks.train_gpu", "--shape", "smallest", "--length", "64", "--steps", "1", "--rows", "2", "--recompute")
    assert json.loads(shown[shown.index("{") :])["tokens/s a device"] > 0  # above it stands what is trained


def test_steps_of_the_budget_make_about_one_epoch() -> None:
    lengths = [20 + 37 * i % 150 for i in range(320)]
    batches = steps(lengths, per_step(sum(lengths), 40, len(lengths)), 0, "test")
    assert abs(sum(len(next(batches)) for _ in range(40)) - 320) <= 16


def test_a_figure_holds_every_point_and_its_names(tmp_path: Path) -> None:
    write(
        tmp_path / "a.svg", "loss <held out>", [Curve("eval", [(0, 3.0), (10, 2.0), (20, 1.5)], [(2.9, 3.1), (1.9, 2.1), (1.4, 1.6)])], 1.0
    )
    drawn = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert "loss &lt;held out&gt;" in drawn
    assert drawn.count("<polygon") == 1
    line = next(part for part in drawn.split("<polyline") if 'stroke-width="2"' in part)
    assert line.count(",") == 3


@pytest.mark.slow
def test_the_learning_script_makes_a_run_its_curves_and_its_table(shared: Path, tmp_path: Path) -> None:
    few = ("steps=2", "tokens=400", "eval_every=1")
    settings = [f"{stage}.{one}" for stage in ("base", "sft", "rm", "dpo") for one in few]
    settings += ["ppo.steps=1", "ppo.prompts=4", "ppo.max_tokens=8", "ppo.eval_every=1", "ppo.held_out=0.05", "vocab_size=2000"]
    settings += ["model.hidden_size=32", "model.intermediate_size=64", "model.layers=1", "model.heads=2", "model.kv_heads=2"]
    overrides = [part for one in settings for part in ("--set", one)]
    shown = run("benchmarks.learning", "--data", shared / "data", "--out", tmp_path / "run", "--share", "0.02", *overrides)
    assert "| dpo | margin on pairs | 0.000 |" in shown
    assert "PPO's replies beat SFT's" in shown
    figures = {file.name for file in (tmp_path / "run/figures").iterdir()}
    assert figures == {"base.svg", "sft.svg", "rm.svg", "ppo-reward.svg", "ppo-kl.svg", "dpo.svg"}
