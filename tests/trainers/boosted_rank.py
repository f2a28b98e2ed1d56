"""What one rank of tests/trainers/test_colossal.py does: SFT under a ColossalAI plugin beside one process, stopped and resumed.

torchrun --nproc-per-node 2 -m tests.trainers.boosted_rank STRATEGY DEVICE FOLDER
"""

from __future__ import annotations

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
from trainers import checkpointing, distributed

TOLERANCE = 5e-6


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
    alone = ranks.sft(world)
    expected = ranks.train(alone)
    if device == "cpu":
        stand_in_for_a_gpu()
    with distributed.joined("ddp", device=device) as joint:
        strategy = distributed.build(name, joint.device)
        stage = ranks.sft(world, strategy)
        found = ranks.train(stage, end=2)
        checkpointing.save(stage, 2, ranks.COUNTERS, folder)
        found += ranks.train(stage, start=2)
        resumed = ranks.sft(world, strategy)
        assert checkpointing.resume(resumed, folder) is not None
        ranks.train(resumed, start=2)
        whole, again = ranks.weights(stage), ranks.weights(resumed)
        if strategy.rank == 0:
            assert (
                ranks.apart(*([{k: v for k, v in entry.items() if "eval" not in k} for entry in side] for side in (found, expected)))
                < TOLERANCE
            )
            assert ranks.distance(whole, ranks.weights(alone)) < TOLERANCE
            assert ranks.distance(again, whole) == 0


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
