"""Killed in any stage, a run goes on to bitwise the weights of one that never stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from modelkit.fingerprint import sha256_of_file
from tests.trainers.stages_of_a_rank import STAGES

pytestmark = pytest.mark.xdist_group("resume")
ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "recipes" / "pocket-tiny.yaml"
SMALLER = ["--set", "evaluate=[]", "--set", "base.steps=16", "--set", "sft.steps=16", "--set", "rm.steps=12", "--set", "ppo.steps=5"]
KILLED = [("base", 13), ("sft", 11), ("rm", 11), ("rl", 3)]
"""(stage, step after which the process is killed): in mid-stage, some steps after a save."""

KILLER = """
import os, signal, sys
from trainers import cli
from trainers.log import StageLog
stage, step = sys.argv.pop(1), int(sys.argv.pop(1))
original = StageLog.event
def event(self, event, **fields):
    original(self, event, **fields)
    if event == "step" and fields["step"] == step and self.path.stem == stage:
        os.kill(os.getpid(), signal.SIGKILL)
StageLog.event = event
cli.main()
"""


IN_AN_UPDATE = """
import os, signal, sys
from trainers import cli
from trainers.ppo.train import Ppo
left = int(sys.argv.pop(1))
original = Ppo._actor_step
def actor_step(self, far, means):
    global left
    original(self, far, means)
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
Ppo._actor_step = actor_step
cli.main()
"""
"""Kills itself after so many of PPO's updates of the actor: with four of them to a rollout, six is the middle of the second's."""


ALL = [f"{stage}{adapters}" for stage in STAGES for adapters in ("", "+lora") if stage != "ppo-shared" or adapters]
"""Every stage, with and without adapters."""


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def trainer(out: Path, *more: str, before: list[str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *(before or ["-m", "trainers"]), "run", str(RECIPE), "--out", str(out), "--threads", "1", *SMALLER, *more]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300, check=False)


def weights(run: Path) -> dict[str, str]:
    return {name: sha256_of_file(run / name / "model.safetensors") for name in ("base", "sft", "rm", "critic", "rl")}


def losses(run: Path, stage: str) -> list[tuple[int, float]]:
    events = [json.loads(line) for line in (run / "logs" / f"{stage}.jsonl").read_text(encoding="utf-8").splitlines()]
    return [(event["step"], event.get("loss", event.get("reward"))) for event in events if event["event"] == "step"]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "whole"
    done = trainer(out)
    assert done.returncode == 0, done.stderr
    return out


def test_a_run_killed_in_every_stage_ends_with_the_same_weights_and_logs(uninterrupted: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    for stage, step in KILLED:
        killed = trainer(out, before=["-c", KILLER, stage, str(step)])
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert not (out / stage).exists()
        assert any((out / "state" / stage).iterdir())
    killed = trainer(out, before=["-c", IN_AN_UPDATE, "6"])
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(losses(out, "rl")) == 3, "one rollout after the saved two was finished, the next one's updates were not"
    done = trainer(out)
    assert done.returncode == 0, done.stderr
    assert weights(out) == weights(uninterrupted)
    for stage, _ in KILLED:
        assert losses(out, stage) == losses(uninterrupted, stage)
    assert not [path for path in out.rglob(".*") if path.name != ".lock"], "nothing half-written is left"


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(uninterrupted: Path, tmp_path: Path) -> None:
    again = trainer(tmp_path / "again")
    other = trainer(tmp_path / "other", "--seed", "1")
    assert again.returncode == other.returncode == 0, again.stderr + other.stderr
    assert weights(tmp_path / "again") == weights(uninterrupted)
    assert set(weights(tmp_path / "other").values()).isdisjoint(weights(uninterrupted).values())


def test_a_finished_run_is_not_trained_again(uninterrupted: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in uninterrupted.glob("*/model.safetensors")}
    assert trainer(uninterrupted).returncode == 0
    assert before == {path: path.stat().st_mtime_ns for path in uninterrupted.glob("*/model.safetensors")}


def test_sigterm_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    out = tmp_path / "stopped"
    command = [
        sys.executable,
        "-m",
        "trainers",
        "run",
        str(RECIPE),
        "--out",
        str(out),
        "--threads",
        "1",
        *SMALLER,
        "--set",
        "base.steps=100000",
    ]
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    log = out / "logs" / "base.jsonl"
    while process.poll() is None and not (log.exists() and '"step": 3' in log.read_text(encoding="utf-8")):
        time.sleep(0.05)
    second = trainer(out, "--set", "base.steps=100000")
    assert second.returncode == 2
    assert "another process is training" in second.stderr
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "goes on from here" in said
    assert json.loads((out / "progress.json").read_text(encoding="utf-8"))["state"] == "stopped"
    assert any((out / "state" / "base").glob("step-*"))


def test_a_damaged_state_falls_back_to_the_one_before(uninterrupted: Path, tmp_path: Path) -> None:
    out = tmp_path / "damaged"
    assert trainer(out, before=["-c", KILLER, "sft", "15"]).returncode == -signal.SIGKILL
    state = max((out / "state" / "sft").glob("step-*"))
    file = state / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-7])
    done = trainer(out)
    assert done.returncode == 0, done.stderr
    assert "is damaged" in done.stdout
    assert weights(out) == weights(uninterrupted)


def test_another_recipe_does_not_write_into_a_run(uninterrupted: Path) -> None:
    refused = trainer(uninterrupted, "--set", "sft.lr=0.5")
    assert refused.returncode == 2
    assert "another recipe" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.fixture(scope="module")
def killed_and_resumed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("stages")
    command = [sys.executable, "-m", "tests.trainers.stages_killed", str(folder), *ALL]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads((folder / "findings.json").read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize("stage", ALL)
def test_a_stage_killed_within_a_step_ends_bitwise_as_one_that_was_not(killed_and_resumed: dict[str, dict[str, Any]], stage: str) -> None:
    """Weights, optimizer states and every line of the log; PPO and GRPO are killed between two updates from one rollout."""
    found = killed_and_resumed[stage]
    assert found["killed"]
    assert found["states"] == ["step-000002"]
    assert any("optimiser" in name for name in found["files"])
    assert found["same weights and optimizers"]
    assert found["same log"]
