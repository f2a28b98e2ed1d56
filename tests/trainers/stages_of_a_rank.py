"""What one rank of tests/trainers/test_strategies.py does: every stage under every strategy, beside one process; the findings go to a file.

torchrun --nproc-per-node 2 -m tests.trainers.stages_of_a_rank FOLDER CELL…    (a cell is STRATEGY:STAGE, +lora or +muon)
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from modelkit.adapter import with_scalar_head
from modelkit.device import set_threads
from modelkit.reward import RewardReference
from tests.trainers.conftest import World, build_world, from_pairs
from trainers import checkpointing, distributed, grpo, lora
from trainers.data import dataset
from trainers.data.dataset import Counts, Example
from trainers.dpo import PreferenceOptimisation
from trainers.kto import KahnemanTversky
from trainers.logprobs import Reference, of_reference
from trainers.loop import StageLoop
from trainers.ppo import train as ppo
from trainers.ppo.models import Separate, SharedBackbone
from trainers.ppo.rollout import Replies
from trainers.recipe import BaseStage, DpoStage, GrpoStage, KtoStage, Lora, Optimisation, PpoStage, RewardStage, SftStage
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
VARIANTS: dict[str, dict[str, Any]] = {"": {}, "lora": {"lora": Lora(rank=4, init="pissa")}, "muon": {"optimiser": "muon"}}
"""PiSSA starts with both factors away from zero, so that both have gradients from the first step on."""

Make = Callable[..., StageLoop]


def policy(world: World, settings: Optimisation) -> PreTrainedModel:
    """The language model as *settings* train it: whole, or frozen with adapters."""
    torch.manual_seed(1)
    return lora.adapt(world.model(), settings, "language").model


def judge(world: World, settings: Optimisation) -> PreTrainedModel:
    """A model with a scalar head as *settings* train it."""
    torch.manual_seed(1)
    whole = from_language_model(world.model(), world.tokenizer)
    if settings.lora is None:
        return whole
    headed = with_scalar_head(world.model())
    headed.score.load_state_dict(whole.score.state_dict())  # type: ignore[union-attr]
    return lora.adapt(headed, settings, "reward").model


def pretrain(world: World, strategy: Strategy | None = None, **changes: Any) -> LanguageModelling:
    texts: list[Example] = dataset.text_examples(
        [{"prompt": "", "text": prompt.text} for prompt in world.prompts], world.tokenizer, 128, Counts()
    )
    settings = BaseStage(**{**SMALL, "packing": True, "neftune": 5.0, **changes})
    return LanguageModelling("base", policy(world, settings), world.tokenizer, texts[5:], texts[:5], [], settings, 0, strategy)


def sft(world: World, strategy: Strategy | None = None, **changes: Any) -> LanguageModelling:
    settings = SftStage(**{**SMALL, **changes})
    return LanguageModelling(
        "sft", policy(world, settings), world.tokenizer, world.examples[5:], world.examples[:5], world.prompts[:2], settings, 0, strategy
    )


def rm(world: World, strategy: Strategy | None = None, **changes: Any) -> RewardModelling:
    settings = RewardStage(**{**SMALL, **changes})
    return RewardModelling(judge(world, settings), world.pairs[5:], world.pairs[:5], settings, 0, strategy)


def dpo(world: World, strategy: Strategy | None = None, **changes: Any) -> PreferenceOptimisation:
    settings, reference = DpoStage(**{**SMALL, **changes}), Reference(world.model, "sha256:start", None)
    pairs, held_out = world.pairs[5:40], world.pairs[:5]
    return PreferenceOptimisation(
        policy(world, settings), reference, world.tokenizer, pairs, held_out, world.prompts[:1], settings, 0, strategy
    )


def kto(world: World, strategy: Strategy | None = None, **changes: Any) -> KahnemanTversky:
    settings, reference = KtoStage(**{**SMALL, **changes}), Reference(world.model, "sha256:start", None)
    rows, held_out = from_pairs(world.pairs[5:40]), from_pairs(world.pairs[:5])
    return KahnemanTversky(policy(world, settings), reference, world.tokenizer, rows, held_out, world.prompts[:1], settings, 0, strategy)


def rl(world: World, strategy: Strategy | None = None, **changes: Any) -> ppo.Ppo:
    settings = PpoStage(**{**SMALL, "lr": 1e-3, "prompts": 7, "max_tokens": 12, "ptx_tokens": 100, "minibatches": 2, **changes})
    scale = RewardReference.of([-1.0, 0.0, 1.0])
    if settings.share_backbone and settings.lora:
        torch.manual_seed(1)
        cast: Any = SharedBackbone(world.model(), settings.lora)
    else:
        cast = Separate(policy(world, settings), judge(world, settings), world.model())
    reward = from_language_model(world.model(), world.tokenizer)
    return ppo.Ppo(cast, reward, world.tokenizer, world.prompts, world.examples, world.prompts[:3], scale, settings, 0, strategy)


def shared(world: World, strategy: Strategy | None = None, **changes: Any) -> ppo.Ppo:
    """PPO with actor, critic and reference on one backbone, which adapters must leave as it is at first."""
    return rl(world, strategy, **{**changes, "share_backbone": True, "lora": Lora(rank=4)})


def groups(world: World, strategy: Strategy | None = None, **changes: Any) -> grpo.GroupRelative:
    small = {**SMALL, "lr": 1e-3, "prompts": 3, "samples": 3, "max_tokens": 12, "kl_coef": 0.1, "epochs": 2, "minibatches": 2}
    settings = GrpoStage(**{**small, "rewards": [{"name": "brief"}, {"name": "reward_model"}], **changes})
    reward = grpo.Judge(settings, world.tokenizer, judge(world, RewardStage(**SMALL)))
    prompts, held_out = world.prompts[4:40], world.prompts[:4]
    return grpo.GroupRelative(
        policy(world, settings), world.model(), reward, world.tokenizer, prompts, held_out, world.prompts[:1], settings, 0, strategy
    )


STAGES: dict[str, tuple[Make, int]] = {
    "pretrain": (pretrain, 3),
    "sft": (sft, STEPS),
    "rm": (rm, 3),
    "ppo": (rl, 2),
    "ppo-shared": (shared, 2),
    "dpo": (dpo, 3),
    "kto": (kto, 3),
    "grpo": (groups, 2),
}
"""How each is made, and how many steps it takes here."""


def make(stage: str, world: World, strategy: Strategy | None = None, **changes: Any) -> StageLoop:
    """A stage by its cell's name, ``sft``, ``sft+lora`` or ``sft+muon``."""
    name, _, variant = stage.partition("+")
    return STAGES[name][0](world, strategy, **VARIANTS[variant], **changes)


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
    """All weights that the stage's checkpoints hold, whole; all ranks call it."""
    modules = stage.modules
    if isinstance(stage, ppo.Ppo):
        modules = {"actor": stage.cast.plain("actor"), "critic": stage.cast.plain("critic")}
    return {f"{name}.{key}": tensor.clone() for name, module in modules.items() for key, tensor in stage.strategy.export(module).items()}


def apart(numbers: list[dict[str, float]], others: list[dict[str, float]]) -> float:
    """The largest difference of any logged number, relative where it is above 1."""
    assert [entry.keys() for entry in numbers] == [entry.keys() for entry in others]
    return max(abs(a[key] - b[key]) / max(1.0, abs(a[key])) for a, b in zip(numbers, others, strict=True) for key in a)


def distance(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """The largest difference of any weight."""
    assert found.keys() == expected.keys(), found.keys() ^ expected.keys()
    return max(float((found[name] - expected[name]).abs().max()) for name in expected)


class Rollouts:
    """What one process sampled, handed to the others: a token drawn otherwise, for one last bit, would not be the strategies' fault."""

    def __init__(self) -> None:
        self.drawn: list[Replies] = []
        self.equal: list[bool] = []

    @contextmanager
    def replayed(self) -> Iterator[None]:
        """While the block runs, policies learn from the stored replies; whether their own would have been the same is noted."""
        sample, left, self.equal = ppo.sample, iter(self.drawn), []

        def stored(*inputs: Any, **options: Any) -> Replies:
            replies, expected = sample(*inputs, **options), next(left)
            self.equal.append(replies.sequences == expected.sequences)
            return expected

        yield from self._instead(stored)

    @contextmanager
    def stored(self) -> Iterator[None]:
        """While the block runs, keep what is sampled."""
        sample = ppo.sample

        def keep(*inputs: Any, **options: Any) -> Replies:
            self.drawn.append(sample(*inputs, **options))
            return self.drawn[-1]

        yield from self._instead(keep)

    @staticmethod
    def _instead(function: Callable[..., Replies]) -> Iterator[None]:
        before = ppo.sample, grpo.sample
        ppo.sample = grpo.sample = function
        try:
            yield
        finally:
            ppo.sample, grpo.sample = before


@dataclass
class Alone:
    """What one process sampled, logged and learnt in a stage."""

    rollouts: Rollouts
    numbers: list[dict[str, float]]
    weights: dict[str, Tensor]


def alone(stage: str, world: World) -> Alone:
    """Train a stage in this process."""
    loop, rollouts = make(stage, world), Rollouts()
    with rollouts.stored():
        numbers = train(loop, end=STAGES[stage.partition("+")[0]][1])
    return Alone(rollouts, numbers, weights(loop))


def beside(expected: Alone, stage: str, world: World, strategy: Strategy) -> dict[str, Any]:
    """Train a stage under a strategy; on rank 0, how far what it logged and learnt is from one process, and whose replies were the same."""
    loop = make(stage, world, strategy)
    with expected.rollouts.replayed():
        numbers = train(loop, end=len(expected.numbers))
    exported = weights(loop)
    if strategy.rank:
        return {}
    return {
        "logged": apart(numbers, expected.numbers),
        "weights": distance(exported, expected.weights),
        "replies": expected.rollouts.equal,
    }


def main(folder: Path, cells: list[tuple[str, str]]) -> None:
    set_threads(1)
    world = build_world()
    expected = {stage: alone(stage, world) for _, stage in cells}
    findings: dict[str, Any] = {}
    with distributed.joined("ddp", device="cpu") as joint:
        for name, stage in cells:
            findings[f"{name}:{stage}"] = beside(expected[stage], stage, world, distributed.build(name, joint.device))
        for name in dict.fromkeys(name for name, _ in cells):
            findings[name] = resume_both_ways(name, world, joint.device, folder, expected["sft"].weights)
        findings["random reward"] = random_reward(world, joint)
        findings["reference"] = reference_kept(world, joint, folder / "reference")
    if os.environ["RANK"] == "0":
        (folder / "findings.json").write_text(json.dumps(findings), encoding="utf-8")


def random_reward(world: World, strategy: Strategy) -> dict[str, float]:
    """What the ranks hold for the mean of rewards that nobody gives twice: this one, and the sum of all."""
    stage = groups(world, strategy, rewards=[{"name": "tests.trainers.stages_of_a_rank:drawn"}])
    mine = stage.evaluate()["eval_reward"]
    return {"mine": mine, "sum": strategy.sum([mine])[0]}


def drawn(prompt: str, reply: str, reference: str | None) -> float:
    return random.random()


def reference_kept(world: World, strategy: Strategy, folder: Path) -> dict[str, Any]:
    """What the ranks compute of a reference together and find again in *folder*, how much of it this one computed, how far all is off."""
    settings, pairs, rows = DpoStage(**SMALL), world.pairs[:9], 0

    def load() -> PreTrainedModel:
        model = world.model()
        model.base_model.register_forward_pre_hook(count, with_kwargs=True)
        return model

    def count(model: nn.Module, inputs: tuple[Any, ...], named: dict[str, Tensor]) -> None:
        nonlocal rows
        rows += len(named["input_ids"])

    def logprobs(reference: Reference, strategy: Strategy) -> Tensor:
        return of_reference(reference, [pair.chosen for pair in pairs], [pair.starts[0] for pair in pairs], settings, strategy)

    found, again = (logprobs(Reference(load, "sha256:start", folder), strategy) for _ in range(2))
    expected = logprobs(Reference(world.model, "sha256:start"), Single())
    files = [str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()]
    return {"distance": distance({"": found}, {"": expected}), "again": torch.equal(found, again), "rows": rows, "files": files}


def resume_both_ways(name: str, world: World, device: torch.device, folder: Path, expected: dict[str, Tensor]) -> dict[str, Any]:
    """Leave a state for one process to go on from, and go on from the one that it left."""
    strategy = distributed.build(name, device)
    stage = sft(world, strategy)
    train(stage, end=2)
    checkpointing.save(stage, 2, COUNTERS, folder / "by two" / name)
    stage = sft(world, strategy)
    step, _ = checkpointing.resume(stage, folder / "by one") or (0, {})
    train(stage, start=step)
    exported = weights(stage)
    return {"resumed at": step, "distance": distance(exported, expected) if strategy.rank == 0 else None}


if __name__ == "__main__":
    main(Path(sys.argv[1]), [(cell.partition(":")[0], cell.partition(":")[2]) for cell in sys.argv[2:]])
