"""What tests/trainers/test_resume.py starts: every stage is killed in the middle of a step and goes on; what came of it goes to a file.

python -m tests.trainers.stages_killed FOLDER STAGE…    (a stage as in stages_of_a_rank: sft, or sft+lora)
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from modelkit.device import set_threads
from tests.trainers import stages_of_a_rank as ranks
from tests.trainers.conftest import World, build_world
from trainers import checkpointing
from trainers.log import Progress
from trainers.loop import StageLoop, train
from trainers.optimiser import Optimiser

OFTEN: dict[str, Any] = {"save_every": 2, "eval_every": 2}
_UNLIKE = ("seconds", "tokens_per_s", "time")
"""What no two runs have in common."""


def begun(stage: str, world: World, folder: Path) -> StageLoop:
    """Train a stage, or what is left of it, and keep its last weights and optimizer states as ``end/``."""
    loop = ranks.make(stage, world, **OFTEN)
    finished = train(loop, 0, folder / "log.jsonl", folder / "state", Progress(None, [loop.name], {loop.name: 1.0}))
    checkpointing.save(loop, finished.steps, {}, folder / "end")
    return loop


def killed(stage: str, world: World, folder: Path) -> int:
    """Train a stage in a process of its own that kills itself within its last step, after the first of its updates; how it ended."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    update, left = Optimiser.step, (ranks.STEPS - 1) * updates_of_a_step(stage) + 1

    def step(self: Optimiser, divide_by: float = 1.0) -> dict[str, float]:
        nonlocal left
        numbers, left = update(self, divide_by), left - 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return numbers

    Optimiser.step = step  # type: ignore[method-assign]
    begun(stage, world, folder)
    os._exit(0)


def updates_of_a_step(stage: str) -> int:
    """How often a step calls an optimizer: PPO actor and critic, four times each in two epochs of two minibatches."""
    return {"ppo": 8, "ppo-shared": 8, "grpo": 4}.get(stage.partition("+")[0], 1)


def log(folder: Path) -> list[dict[str, Any]]:
    """The lines of a stage's log, less what no two runs have in common."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in line.items() if key not in _UNLIKE} for line in lines]


def files(folder: Path) -> dict[str, str]:
    """Names and hashes of the files of a stage's last state."""
    (state,) = (folder / "end").iterdir()
    return json.loads((state / "state.json").read_text(encoding="utf-8"))["files"]


def main(folder: Path, stages: list[str]) -> None:
    set_threads(1)
    world = build_world()
    findings: dict[str, Any] = {}
    for stage in stages:
        whole, parts = folder / stage / "whole", folder / stage / "parts"
        status = killed(stage, world, parts)
        states = sorted(path.name for path in (parts / "state").glob("step-*"))
        begun(stage, world, whole)
        torch.manual_seed(99)
        begun(stage, world, parts)
        findings[stage] = {
            "killed": status == -signal.SIGKILL,
            "states": states,
            "files": sorted(files(whole)),
            "same weights and optimizers": files(whole) == files(parts),
            "same log": log(whole) == log(parts),
        }
    (folder / "findings.json").write_text(json.dumps(findings), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
