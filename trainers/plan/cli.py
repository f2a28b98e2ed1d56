"""``trainers plan``: memory and time before anything is loaded."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from modelkit.errors import UserError, one_sentence


class Stage(str, Enum):
    """The stages, as the command line lists them."""

    pretrain = "pretrain"
    sft = "sft"
    rm = "rm"
    ppo = "ppo"
    dpo = "dpo"
    kto = "kto"
    grpo = "grpo"


class Dtype(str, Enum):
    """What passes compute in."""

    fp32 = "fp32"
    bf16 = "bf16"


def plan(
    model: Annotated[Path | None, typer.Option("--model", "-m", help="A checkpoint's folder; its config.json is enough.")] = None,
    config: Annotated[Path | None, typer.Option(help="A recipe: its stages are planned, with its model where it makes one.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a field of the recipe, e.g. ppo.dtype=bf16.")
    ] = None,
    stage: Annotated[Stage, typer.Option(help="The stage, where no recipe names them.")] = Stage.sft,
    strategy: Annotated[str, typer.Option(help="Only this strategy, instead of all that are possible.")] = "auto",
    tokens: Annotated[int, typer.Option(min=1, help="Tokens of a step, over all devices.")] = 65536,
    micro_tokens: Annotated[int, typer.Option(min=1, help="Tokens of one pass on one device.")] = 4096,
    length: Annotated[int, typer.Option(min=1, help="Tokens of a row.")] = 1024,
    lora_rank: Annotated[int | None, typer.Option(min=1, help="Train adapters of this rank instead of all weights.")] = None,
    gradient_checkpointing: Annotated[bool, typer.Option("--gradient-checkpointing", help="Recompute layers on the way back.")] = False,
    dtype: Annotated[Dtype, typer.Option(help="What passes compute in.")] = Dtype.fp32,
    devices: Annotated[int, typer.Option("--devices", "--gpus", min=1, help="GPUs, or processes on CPUs.")] = 1,
    memory: Annotated[float | None, typer.Option("--gpu-memory", "--memory", help="GiB per device; by default this machine's.")] = None,
    tflops: Annotated[
        float | None, typer.Option(help="TFLOP/s a device reaches in training; by default half of what is measured here.")
    ] = None,
) -> None:
    """Estimate memory by part and time of a step, and name the cheapest strategy that fits, before anything is loaded."""
    with one_sentence():
        from modelkit.device import dtype_of
        from trainers.plan.estimate import EFFICIENCY, Request, measured_rate
        from trainers.plan.estimate import plan as estimate
        from trainers.plan.machine import device_here, memory_here
        from trainers.plan.requests import of_recipe
        from trainers.plan.terminal import show
        from trainers.reading import load
        from trainers.recipe import Lora

        if model is None and config is None:
            raise UserError("there is nothing to plan: name a model with -m DIR, a recipe with --config FILE, or both.")
        if set_ and config is None:
            raise UserError("--set overrides a recipe: name one with --config FILE, or use the other options.")
        if config is not None:
            requests = list(of_recipe(load(config, set_), model, devices, length).values())
        else:
            from trainers.plan.footprint import read_config

            assert model is not None
            lora = Lora(rank=lora_rank) if lora_rank else None
            given = read_config(model)
            requests = [
                Request(*(given, stage.value, tokens, micro_tokens, length, devices, dtype_of(dtype.value), lora, gradient_checkpointing))
            ]
        limit, host = memory_here(memory)
        elsewhere = memory is not None and tflops is None
        rates: dict[object, float | None] = {}
        for request in requests:
            found = estimate(request, strategy)
            if request.dtype not in rates:
                measured = None if tflops or elsewhere else EFFICIENCY * measured_rate(device_here(), request.dtype)
                rates[request.dtype] = tflops * 1e12 if tflops else measured
            show(found, request, limit, host, rates[request.dtype])
