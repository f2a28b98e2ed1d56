"""What one rank of tests/trainers/test_colossal.py does: stages under a ColossalAI plugin beside one process; the findings go to a file.

torchrun --nproc-per-node 2 -m tests.trainers.boosted_rank STRATEGY DEVICE FOLDER
"""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from colossalai.accelerator.cpu_accelerator import CpuAccelerator
from colossalai.zero.low_level.low_level_optim import LowLevelZeroOptimizer

from modelkit.device import set_threads
from tests.trainers import stages_of_a_rank as ranks
from tests.trainers.conftest import build_world
from tests.trainers.test_colossal import STAGES
from trainers import checkpointing, distributed


class NoStream:
    """A CPU does one thing after another."""

    def wait_stream(self, other: Any) -> None:
        pass


def stand_in_for_a_gpu() -> None:
    accelerator: Any = CpuAccelerator
    accelerator.Stream = accelerator.current_stream = lambda self, *_: NoStream()
    accelerator.stream = lambda self, stream: nullcontext()
    LowLevelZeroOptimizer._sanity_checks = lambda self: None
    torch.Tensor.record_stream = lambda self, stream: None  # type: ignore[assignment,method-assign]


def main(name: str, device: str, folder: Path) -> None:
    set_threads(1)
    world = build_world()
    expected = {stage: ranks.alone(stage, world) for stage in STAGES}
    if device == "cpu":
        stand_in_for_a_gpu()
    with distributed.joined("ddp", device=device) as joint:
        strategy = distributed.build(name, joint.device)
        findings: dict[str, Any] = {
            stage: ranks.beside(expected[stage], stage, world, distributed.build(name, joint.device)) for stage in STAGES
        }
        stage = ranks.sft(world, strategy)
        ranks.train(stage, end=2)
        checkpointing.save(stage, 2, ranks.COUNTERS, folder)
        ranks.train(stage, start=2)
        resumed = ranks.sft(world, strategy)
        assert checkpointing.resume(resumed, folder) is not None
        ranks.train(resumed, start=2)
        whole, again = ranks.weights(stage), ranks.weights(resumed)
        if strategy.rank == 0:
            findings["resumed"] = {"distance": ranks.distance(again, whole)}
            (folder / "findings.json").write_text(json.dumps(findings), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
