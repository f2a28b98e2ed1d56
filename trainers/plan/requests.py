"""What is to be planned for a recipe: a request for each of its stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelkit.device import dtype_of
from modelkit.errors import UserError
from trainers.plan.estimate import Request
from trainers.plan.footprint import read_config
from trainers.recipe import GrpoStage, Recipe
from trainers.stages import llama

_STAGES: dict[str, Any] = {"base": "pretrain", "rl": "ppo"}
"""What a plan calls the stages whose checkpoints have other names."""


def of_recipe(recipe: Recipe, model: Path | None, devices: int = 1, length: int = 1024) -> dict[str, Request]:
    """A request for each stage, by the name of its checkpoint.

    :param model: the checkpoint to start from; ``None`` for the recipe's own new model.
    :param length: tokens of a row; those of a new model fill its context.
    :raises UserError: when the recipe needs a checkpoint and none is given.
    """
    if model is None and recipe.base is None:
        raise UserError(f"the recipe {recipe.name} starts from a checkpoint: name it with -m DIR.")
    if model is not None:
        config = read_config(model)
    else:
        config, length = llama(recipe.model, recipe.vocab_size), recipe.model.context
    requests = {}
    for checkpoint, section in recipe.stages.items():
        if checkpoint == "base" and model is not None:
            continue
        rows = getattr(section, "prompts", 0) * getattr(section, "samples", 1)
        requests[checkpoint] = Request(
            config,
            _STAGES.get(checkpoint, checkpoint),
            rows * length if rows else section.tokens,
            section.micro_tokens,
            length,
            devices,
            dtype_of(section.dtype),
            section.lora,
            section.gradient_checkpointing,
            section.optimiser,
            rows=rows or 64,
            epochs=getattr(section, "epochs", 1),
            share=getattr(section, "share_backbone", False),
            reference=isinstance(section, GrpoStage) and section.kl_coef > 0,
            judge=isinstance(section, GrpoStage) and section.needs_reward_model,
        )
    return requests
