"""What one rank of tests/trainers/test_strategies.py does: every stage under every strategy, beside one process; the findings go to a file.

torchrun --nproc-per-node 2 -m tests.trainers.stages_of_a_rank FOLDER
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from modelkit.device import set_threads
from modelkit.reward import RewardReference
from tests.trainers.conftest import World, build_world
from trainers import checkpointing, distributed
from trainers.dpo import PreferenceOptimisation, Reference
from trainers.loop import StageLoop
from trainers.ppo import train as ppo
from trainers.ppo.models import Separate
from trainers.ppo.rollout import Replies
from trainers.recipe import DpoStage, PpoStage, RewardStage, SftStage
from trainers.reward import RewardModelling, from_language_model
from trainers.sft import LanguageModelling
from trainers.strategies import Strategy
from trainers.strategies.plain import Single

STEPS = 4
COUNTERS = {"tokens": 0, "seconds": 0.0, "log_bytes": 0}
SMALL = {"data": [], "steps": STEPS, "lr": 3e-3, "tokens": 260, "micro_tokens": 200, "weight_decay": 0.1, "eps": 1e-5}
"""About five rows a step in several micro-batches of unequal number: what two ranks can't share evenly.

The ε keeps Adam from making whole updates of gradients that are nothing but rounding.
"""


def sft(world: World, strategy: Strategy | None = None, **changes: Any) -> LanguageModelling:
    settings = SftStage(**{**SMALL, **changes})
    return LanguageModelling(
        "sft", world.model(), world.tokenizer, world.examples[5:], world.examples[:5], world.prompts[:2], settings, 0, strategy
    )


def rm(world: World, strategy: Strategy) -> RewardModelling:
    torch.manual_seed(1)
    model = from_language_model(world.model(), world.tokenizer)
    return RewardModelling(model, world.pairs[5:], world.pairs[:5], RewardStage(**SMALL), 0, strategy)


def dpo(world: World, strategy: Strategy) -> PreferenceOptimisation:
    reference = Reference(world.model, "sha256:start", None)
    pairs, held_out = world.pairs[5:40], world.pairs[:5]
    return PreferenceOptimisation(
        world.model(), reference, world.tokenizer, pairs, held_out, world.prompts[:1], DpoStage(**SMALL), 0, strategy=strategy
    )


def rl(world: World, strategy: Strategy) -> ppo.Ppo:
    torch.manual_seed(1)
    settings = PpoStage(**{**SMALL, "lr": 1e-3, "prompts": 7, "max_tokens": 12, "ptx_tokens": 100, "minibatches": 2})
    cast = Separate(world.model(), from_language_model(world.model(), world.tokenizer), world.model())
    reward = from_language_model(world.model(), world.tokenizer)
    scale = RewardReference.of([-1.0, 0.0, 1.0])
    return ppo.Ppo(cast, reward, world.tokenizer, world.prompts, world.examples, world.prompts[:3], scale, settings, 0, strategy)


def train(stage: StageLoop, start: int = 0, end: int = STEPS) -> list[dict[str, float]]:
    """Steps *start* … *end* − 1, as the loop takes them, with samples and an evaluation in between: neither may change anything."""
    stage.begin(start)
    numbers = []
    for step in range(start, end):
        torch.manual_seed(step)
        numbers.append(stage.step(step).numbers)
        if step == start:
            stage.samples()
            numbers[-1] |= stage.evaluate()
    return numbers


def weights(stage: StageLoop) -> dict[str, Tensor]:
    return {
        f"{name}.{key}": tensor.clone() for name, module in stage.modules.items() for key, tensor in stage.strategy.export(module).items()
    }


def apart(numbers: list[dict[str, float]], others: list[dict[str, float]]) -> float:
    """The largest difference of any logged number, relative where it is above 1."""
    assert [entry.keys() for entry in numbers] == [entry.keys() for entry in others]
    return max(abs(a[key] - b[key]) / max(1.0, abs(a[key])) for a, b in zip(numbers, others, strict=True) for key in a)


def distance(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    assert found.keys() == expected.keys(), found.keys() ^ expected.keys()
    return max(float((found[name] - expected[name]).abs().max()) for name in expected)


def main(folder: Path, names: list[str]) -> None:
    set_threads(1)
    world = build_world()
    stages: dict[str, Callable[[World, Strategy], StageLoop]] = {"sft": sft, "rm": rm, "dpo": dpo, "rl": rl}
    drawn: list[Replies] = []
    equal: list[bool] = []
    sample = ppo.sample

    def stored(*inputs: Any, **options: Any) -> Replies:
        """PPO learns from the same replies everywhere: a token drawn otherwise, for one last bit, would not be the strategies' fault."""
        replies = sample(*inputs, **options)
        if isinstance(options["strategy"], Single):
            drawn.append(replies)
            return replies
        expected = drawn[len(equal) % len(drawn)]
        equal.append(replies.sequences == expected.sequences)
        return expected

    ppo.sample = stored
    alone = {name: make(world, Single()) for name, make in stages.items()}
    steps = {"sft": STEPS, "rm": 3, "dpo": 3, "rl": 2}
    expected = {name: train(stage, end=steps[name]) for name, stage in alone.items()}
    findings: dict[str, Any] = {}
    with distributed.joined("ddp") as joint:
        for strategy_name in names:
            strategy = distributed.build(strategy_name, joint.device)
            for name, make in stages.items():
                stage = make(world, strategy)
                found = train(stage, end=steps[name])
                exported = weights(stage)
                if strategy.rank == 0:
                    logged = apart(found, expected[name])
                    findings[f"{strategy_name} {name}"] = {"logged": logged, "weights": distance(exported, weights(alone[name]))}
            stage = sft(world, strategy)
            train(stage, end=2)
            checkpointing.save(stage, 2, COUNTERS, folder / "by two" / strategy_name)
            stage = sft(world, strategy)
            step, _ = checkpointing.resume(stage, folder / "by one") or (0, {})
            train(stage, start=step)
            exported = weights(stage)
            if strategy.rank == 0:
                findings[f"{strategy_name} resumed at"] = step
                findings[f"{strategy_name} resumed"] = distance(exported, weights(alone["sft"]))
    if os.environ["RANK"] == "0":
        findings["same replies"] = equal
        (folder / "findings.json").write_text(json.dumps(findings), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2].split(","))
