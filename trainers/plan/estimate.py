"""Memory by part and time for a stage under each strategy, and the cheapest strategy that fits."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch

from modelkit.errors import UserError
from trainers.plan.footprint import Footprint, Pass, measure
from trainers.recipe import Lora

Kind = Literal["language", "reward"]
StageName = Literal["pretrain", "sft", "rm", "ppo", "dpo", "kto", "grpo"]
STAGES: tuple[StageName, ...] = get_args(StageName)
STRATEGIES = ("single", "ddp", "zero1", "zero2", "zero3", "zero3_offload")
"""Cheapest first: each sends more than the one before, and keeps less on a device."""

COLOSSALAI = ("colossalai_ddp", "colossalai_zero1", "colossalai_zero2", "colossalai_zero2_cpu")
"""Planned only where they are asked for: what is above does the same with less."""

ALLOCATOR = 0.2
"""What an allocator keeps beyond what is live, as a share of what comes and goes: 0.2 to 0.4 of a small pass under glibc (measured)."""

EFFICIENCY = 0.5
"""The share of a large matrix product's rate that a whole training step is taken to reach."""


@dataclass(frozen=True)
class Request:
    """What is to be planned. ``tokens`` are those of a step over all devices, ``micro_tokens`` of one pass on one device.

    ``rows`` are the replies sampled at a time on a device and ``epochs`` the passes over them (PPO, GRPO); ``share`` lets one backbone
    with two adapters play actor, critic and reference. GRPO may have a ``reference`` and a ``judge``, a reward model, beside its policy.
    """

    config: Any
    stage: StageName
    tokens: int
    micro_tokens: int
    length: int
    devices: int = 1
    dtype: torch.dtype = torch.float32
    lora: Lora | None = None
    recompute: bool = False
    optimiser: Literal["adamw", "muon"] = "adamw"
    rows: int = 64
    epochs: int = 1
    share: bool = False
    reference: bool = False
    judge: bool = False


@dataclass(frozen=True)
class Memory:
    """Bytes on one device by part; ``host`` is what all processes together keep in the machine's memory instead."""

    weights: float
    gradients: float
    optimizer: float
    activations: float
    cache: float
    host: float = 0.0

    @property
    def allocator(self) -> float:
        """Room that is lost between allocations."""
        return ALLOCATOR * max(self.activations, self.cache)

    @property
    def device(self) -> float:
        """All that is on the device at the worst moment; sampling and learning take turns."""
        return self.weights + self.gradients + self.optimizer + max(self.activations, self.cache) + self.allocator


@dataclass(frozen=True)
class Plan:
    """Parameters, memory under each strategy that these devices can run, and floating-point operations of a step over all of them."""

    parameters: int
    trained: int
    memory: dict[str, Memory]
    flops: float

    def cheapest(self, limit: float, host: float = math.inf) -> str | None:
        """The first strategy that needs at most *limit* bytes on a device and *host* bytes in the machine's memory."""
        return next((name for name, memory in self.memory.items() if memory.device <= limit and memory.host <= host), None)

    def seconds(self, rate: float, devices: int = 1) -> float:
        """The length of a step on *devices* that reach *rate* floating-point operations per second each."""
        return self.flops / (rate * devices)


def plan(request: Request, strategy: str = "auto") -> Plan:
    """Estimate a stage's memory and work from the model's configuration alone, under one *strategy* or all that these devices can run.

    Bytes per trained parameter are 4 for the fp32 weight, 4 for its gradient and 8 for AdamW's two moments; ZeRO stage 1 divides
    the moments by the number of devices, 2 also gradients and stored weights (the casts that passes use stay whole), 3 everything
    but two layers and the embeddings (Rajbhandari et al. 2020, ZeRO, §5, with fp32 master weights only). ColossalAI's stages 1 and
    2 divide a second fp32 copy of the weights as well, and keep the weights themselves whole. Muon keeps one moment. Frozen weights
    are kept in the dtype that is computed in, quantised ones in their bits. Activations are counted by running a pass
    (:func:`trainers.plan.footprint.measure`). Keys and values take 2 · layers · heads · size numbers per token.

    :raises UserError: for a model whose passes can't be counted, and for a strategy that isn't known or can't run so.
    """
    names: tuple[str, ...] = STRATEGIES[1:] if request.devices > 1 else ("single", "zero3_offload")
    if strategy != "auto":
        if strategy not in (*names, *COLOSSALAI):
            known = ", ".join((*names, *COLOSSALAI))
            raise UserError(f"{strategy!r} can't be planned, or not on so many devices ({request.devices}): use one of auto, {known}.")
        names = (strategy,)
    share = max(1, request.tokens // request.devices)
    length = min(request.length, share)
    one = Pass(max(length, min(request.micro_tokens, share)), length, 1.0, request.dtype, request.lora, request.recompute)
    kinds: list[Kind] = ["language"] if request.stage != "rm" else ["reward"]
    if request.stage == "ppo":
        kinds.append("reward")
    there: list[Kind] = [*kinds, "reward"] if request.judge else kinds
    prints = {kind: measure(request.config, kind, one) for kind in there}
    largest = max(kinds, key=lambda kind: prints[kind].activations)
    whole = sharded = prints[largest]
    if request.dtype != torch.float32 and request.devices > 1:
        sharded = measure(request.config, largest, replace(one, sharded=True))
    learnt, others = [prints[kind] for kind in kinds], _bystanders(request, prints)
    memory = {
        name: _memory(name, request, learnt, others, sharded if name.startswith(("zero2", "zero3")) else whole, one) for name in names
    }
    return Plan(learnt[0].parameters, sum(found.trained for found in learnt), memory, _flops(request, learnt, one))


def _memory(name: str, request: Request, learnt: list[Footprint], others: list[Footprint], largest: Footprint, one: Pass) -> Memory:
    devices, cast = request.devices, request.dtype.itemsize
    trained = sum(found.trained for found in learnt)
    copies = learnt[:1] if request.share else learnt
    frozen = sum(_frozen_bytes(found, found.parameters - found.trained, request) for found in copies)
    frozen += sum(_frozen_bytes(found, found.parameters, request) for found in others)
    stored, gradients, moments = 4 * trained + frozen, 4 * trained, (8 if request.optimiser == "adamw" else 4) * trained
    passes = math.ceil(request.tokens / devices / one.tokens)
    accumulates = passes > 1 or len(learnt) > 1
    activations = largest.activations if accumulates else max(0, largest.fresh - gradients)
    cache = request.rows * request.length * learnt[0].cache_per_token if request.stage in ("ppo", "grpo") else 0
    if name in ("single", "ddp", "colossalai_ddp", "zero1"):
        return Memory(stored, gradients, moments / (devices if name == "zero1" else 1), activations, cache)
    if name in COLOSSALAI:
        states, kept = moments + 4 * trained, gradients / (1 if name == "colossalai_zero1" else devices)
        if name == "colossalai_zero2_cpu":
            return Memory(stored, kept, 0, activations, cache, host=states)
        return Memory(stored, kept, states / devices, activations, cache)
    gathered = cast * sum(found.parameters for found in copies) if name == "zero2" else cast * (largest.root + 2 * largest.layer)
    passing = largest.activations + cast * largest.layer  # a layer's gradient, before it is divided
    if name == "zero3_offload":
        return Memory(gathered, 0, 0, passing, cache, host=stored + gradients + moments)
    return Memory(stored / devices + gathered, gradients / devices, moments / devices, passing, cache)


def _bystanders(request: Request, prints: dict[Kind, Footprint]) -> list[Footprint]:
    """Models that are there and don't learn. DPO and KTO read their reference once, before training begins."""
    ppo = request.stage == "ppo"
    wanted: dict[Kind, bool] = {"language": request.reference or (ppo and not request.share), "reward": request.judge or ppo}
    return [prints[kind] for kind, so in wanted.items() if so]


def _frozen_bytes(found: Footprint, count: int, request: Request) -> float:
    """Of a quantised model's layers, the bits of the codes, and a scale and a zero point for each group."""
    settings = getattr(request.config, "quantization_config", None) or {}
    bits, group = (settings.get(key) for key in ("bits", "group_size"))
    if not bits or not count:
        return float(request.dtype.itemsize * count)
    per_weight = bits / 8 + (2 + bits / 8) / (group if group and group > 0 else request.config.hidden_size)
    return found.quantised * per_weight + 2 * max(0, count - found.quantised)


def _flops(request: Request, learnt: list[Footprint], one: Pass) -> float:
    """A step's operations: a backward pass costs two forward ones (Kaplan et al. 2020, §2.1), one where only adapters learn."""
    learning = (2 if request.lora else 3) + request.recompute
    forward = [found.forward_flops * request.tokens / one.tokens for found in learnt]
    if request.stage == "ppo":  # sampling and reference; reward and values; then the updates
        return 2 * forward[0] + 2 * forward[1] + request.epochs * learning * sum(forward)
    if request.stage == "grpo":
        passes = 1 + (request.epochs > 1) + request.reference + request.judge  # sampling, the policy before its updates, the others
        return (passes + request.epochs * learning) * forward[0]
    return learning * forward[0]


def measured_rate(device: torch.device, dtype: torch.dtype, size: int = 1024) -> float:
    """Floating-point operations per second of this device's matrix product: the best of a few."""
    size = 8192 if device.type == "cuda" else size
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best = math.inf
    for _ in range(6):
        began = time.perf_counter()
        product = left @ right
        product[0, 0].item()  # waits for the device
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best
