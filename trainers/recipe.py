"""A recipe: one YAML file that reproduces one model. Every field is checked, every default is here."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from modelkit.errors import UserError


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Architecture(_Section):
    """A LLaMA-shaped model made from scratch."""

    hidden_size: int = 256
    intermediate_size: int = 512
    layers: int = 3
    heads: int = 4
    kv_heads: int = 4
    context: int = 512
    rope_theta: float = 10000.0


class World(_Section):
    """The pocket world as the source of all data. ``limit`` keeps that many facts per relation."""

    limit: int | None = None
    polite: float = 0.4
    plain: float = 0.3
    two_turns: float = 0.15


class Optimisation(_Section):
    """How weights are updated, with warm-up and cosine decay. A step sees about ``tokens`` tokens, in parts of ``micro_tokens``.

    ``muon`` orthogonalises the updates of the body's matrices (Jordan et al. 2024) at ``muon_lr``, and leaves embeddings, heads
    and vectors to AdamW at ``lr``: a small model learns from scratch in noticeably fewer tokens with it.
    """

    steps: int = Field(gt=0)
    lr: float = Field(gt=0)
    optimiser: Literal["adamw", "muon"] = "adamw"
    muon_lr: float = Field(0.01, gt=0)
    tokens: int = Field(2048, gt=0)
    micro_tokens: int = Field(4096, gt=0)
    warmup: float = Field(0.05, ge=0, lt=1, description="share of the steps")
    final_lr: float = Field(0.1, ge=0, le=1, description="share of the peak left at the end")
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-8
    clip: float = 1.0
    save_every: int = Field(100, gt=0)
    sample_every: int = Field(50, gt=0)


class Mixture(_Section):
    """One data file (relative to the data folder), its weight among the others per row, and when it joins in."""

    path: str
    weight: float = Field(1.0, gt=0)
    start: float = Field(0.0, ge=0, lt=1, description="share of the stage's steps after which the file joins in")


class BaseStage(Optimisation):
    """Language modelling on plain text, from scratch."""

    data: list[Mixture]


class SftStage(Optimisation):
    """Supervised fine-tuning: the loss looks at the assistant's tokens only. ``replay`` mixes plain text in."""

    data: list[Mixture]
    replay: list[Mixture] = []
    held_out: float = Field(0.02, ge=0, lt=1, description="share of the rows kept for the evaluation loss")


class RewardStage(Optimisation):
    """A reward model: Bradley–Terry on preference pairs, initialised from the SFT model."""

    data: list[Mixture]
    loss: Literal["log_sig", "log_exp"] = "log_sig"
    held_out: float = Field(0.02, ge=0, lt=1)
    reference_prompts: int = Field(200, gt=0, description="how many prompts' SFT replies give the rewards their scale")


class PpoStage(Optimisation):
    """PPO with PTX. A step is one rollout of ``prompts`` replies and ``epochs`` passes over it in ``minibatches``."""

    data: list[Mixture]
    ptx: list[Mixture] = []
    ptx_coef: float = Field(1.0, ge=0, description="additive, as in InstructGPT eq. 2; 0 switches PTX off")
    ptx_tokens: int = 1024
    prompts: int = Field(64, gt=0)
    epochs: int = Field(2, gt=0)
    minibatches: int = Field(2, gt=0)
    critic_lr: float = 1e-3
    critic_warmup: int = Field(0, ge=0, description="first steps that update only the critic")
    kl_coef: float = 0.05
    max_tokens: int = 48
    temperature: float = 1.0
    gamma: float = 1.0
    lam: float = 0.95
    clip_ratio: float = 0.2
    clip_value: float = 0.2
    value_coef: float = 0.5
    missing_eos_penalty: float = 1.0
    reward_clip: float = Field(5.0, description="rewards, in standard deviations of SFT's, are clipped to ± this")


class Recipe(_Section):
    """What ``trainers run`` does. Stages that are absent are skipped; without ``base``, ``--base`` names a checkpoint."""

    name: str
    title: dict[str, str] = {}
    seed: int = 0
    languages: list[str] = ["en"]
    world: World | None = None
    model: Architecture = Architecture()
    vocab_size: int = 2048
    base: BaseStage | None = None
    sft: SftStage
    rm: RewardStage
    ppo: PpoStage
    evaluate: list[str] = []
    bars: list[Bar] = []


class Bar(_Section):
    """Something the run must reach, checked on the report card. An *aim* is shown in the same way, but missing it is no failure."""

    name: str
    stage: str
    metric: str
    at_least: float | None = None
    at_most: float | None = None
    minus: str | None = Field(None, description="subtract the same metric of this stage first")
    aim: bool = False


Recipe.model_rebuild()


def load(path: Path, overrides: list[str] | None = None) -> Recipe:
    """Read a recipe and apply ``key.sub=value`` overrides (values are YAML).

    :raises UserError: naming the file and the field when anything is missing, misspelt or of the wrong kind.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"there is no recipe at {path}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no recipe: a mapping with name, sft, rm and ppo is needed.")
    for override in overrides or []:
        _apply(content, override)
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path}: {field}: {first['msg'].lower()} (got {first['input']!r}).") from None


def _apply(content: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals:
        raise UserError(f"--set {override!r}: write it as key=value, for example --set ppo.steps=40.")
    *parents, last = key.split(".")
    for parent in parents:
        content = content.setdefault(parent, {})
        if not isinstance(content, dict):
            raise UserError(f"--set {override!r}: {parent} is not a section of the recipe.")
    content[last] = yaml.safe_load(value)
