"""Two processes, under every strategy, train what one process trains; what one kind of run saves, another goes on from."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainers import stages_of_a_rank as ranks
from tests.trainers.conftest import World
from trainers import checkpointing, distributed
from trainers.strategies import turns
from trainers.strategies.plain import Single
from trainers.strategies.ranks import shares

ROOT = Path(__file__).resolve().parents[2]
STRATEGIES = ["ddp", "zero1", "zero2", "zero3", "zero3_offload"]
TOLERANCE = 5e-6
"""Of weights of order 0.1 after a few updates at 3e-3, and of logged numbers: only the order of sums differs."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, world: World) -> Path:
    """Where two ranks left their findings, and states for one process to go on from; one process's state was there for them."""
    folder = tmp_path_factory.mktemp("ranks")
    stage = ranks.sft(world)
    ranks.train(stage, end=2)
    checkpointing.save(stage, 2, ranks.COUNTERS, folder / "by one")
    torchrun(2, "-m", "tests.trainers.stages_of_a_rank", str(folder), ",".join(STRATEGIES))
    return folder


def torchrun(processes: int, *command: str) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*launcher, *command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=540, check=False)
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.fixture(scope="module")
def findings(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "findings.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def uninterrupted(world: World) -> dict[str, torch.Tensor]:
    stage = ranks.sft(world)
    ranks.train(stage)
    return ranks.weights(stage)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["sft", "rm", "dpo", "rl"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_processes_log_and_learn_what_one_does(findings: dict[str, Any], strategy: str, stage: str) -> None:
    found = findings[f"{strategy} {stage}"]
    assert found["logged"] < TOLERANCE
    assert found["weights"] < TOLERANCE


@pytest.mark.slow
def test_sampled_replies_are_the_same_on_two_ranks_though_they_wait_for_nobody(findings: dict[str, Any]) -> None:
    """Each rank samples its own number of replies, of lengths of their own; the gathered replies are one process's."""
    assert len(findings["same replies"]) >= 2 * len(STRATEGIES)
    assert all(findings["same replies"])


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_processes_go_on_from_what_one_saved(findings: dict[str, Any], strategy: str) -> None:
    assert findings[f"{strategy} resumed at"] == 2
    assert findings[f"{strategy} resumed"] < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("saved_by", STRATEGIES)
def test_one_process_goes_on_from_what_two_saved(folder: Path, saved_by: str, world: World, uninterrupted: dict[str, torch.Tensor]) -> None:
    stage = ranks.sft(world)
    step, _ = checkpointing.resume(stage, folder / "by two" / saved_by) or (0, {})
    assert step == 2
    ranks.train(stage, start=step)
    assert ranks.distance(ranks.weights(stage), uninterrupted) < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["zero1", "zero3"])
def test_a_strategy_of_one_process_goes_on_from_what_two_saved(
    folder: Path, strategy: str, world: World, uninterrupted: dict[str, torch.Tensor]
) -> None:
    with distributed.joined(strategy) as alone:
        stage = ranks.sft(world, alone)
        step, _ = checkpointing.resume(stage, folder / "by two" / strategy) or (0, {})
        assert step == 2
        ranks.train(stage, start=step)
        assert ranks.distance(ranks.weights(stage), uninterrupted) < TOLERANCE


@pytest.mark.slow
def test_sharded_states_hold_no_pickle(folder: Path) -> None:
    files = {file.suffix for file in (folder / "by two").rglob("*") if file.is_file()}
    assert files == {".safetensors", ".json"}


def test_a_step_is_shared_out_evenly_and_wholly() -> None:
    costs = [9, 1, 1, 1, 5, 4, 3, 3, 8]
    parts = shares(range(100, 109), costs, 3)
    assert sorted(index for part in parts for index in part) == list(range(100, 109))
    assert all(part == sorted(part) for part in parts), "the order of the step is kept"
    loads = [sum(costs[index - 100] for index in part) for part in parts]
    assert max(loads) - min(loads) <= 1


def test_more_ranks_than_rows_leave_some_without_any() -> None:
    assert shares([7], [3], 3) == [[7], [], []]


class TheThirdOfThree(Single):
    """A rank that got nothing of a step that takes the others two passes."""

    def share(self, indices: Any, costs: Any) -> list[int]:
        return []

    def rounds(self, microbatches: int) -> int:
        return 2


def test_a_rank_without_rows_makes_as_many_passes_at_weight_zero() -> None:
    assert turns(TheThirdOfThree(), [4, 2], [9, 9, 5, 9, 7], 100) == [([2], 0.0), ([2], 0.0)]


def test_one_process_has_no_passes_to_add() -> None:
    assert turns(Single(), [0, 1, 2], [5, 5, 5], 10) == [([0, 1], 1.0), ([2], 1.0)]
