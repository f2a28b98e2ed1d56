"""A recipe: one YAML file that reproduces one model. Every field is checked, every default is here."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Decay = Annotated[float, Field(ge=0, lt=1)]
"""How much of a running mean is kept at each step."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Architecture(_Section):
    """A LLaMA-shaped model made from scratch."""

    hidden_size: int = Field(256, gt=0)
    intermediate_size: int = Field(512, gt=0)
    layers: int = Field(3, gt=0)
    heads: int = Field(4, gt=0)
    kv_heads: int = Field(4, gt=0)
    context: int = Field(512, gt=1)
    rope_theta: float = Field(10000.0, gt=0)

    @model_validator(mode="after")
    def _divides(self) -> Architecture:
        if self.hidden_size % (2 * self.heads):
            raise ValueError(
                f"{self.heads} heads can't share a hidden_size of {self.hidden_size}: rotary positions need an even size for each, so "
                f"make it a multiple of {2 * self.heads}"
            )
        if self.heads % self.kv_heads:
            raise ValueError(f"{self.heads} heads can't share {self.kv_heads} kv_heads: make heads a multiple of them")
        return self


class World(_Section):
    """The pocket world as the source of all data. ``limit`` keeps that many facts per relation."""

    limit: int | None = Field(None, gt=0)
    polite: float = Field(0.4, ge=0, le=1)
    plain: float = Field(0.3, ge=0, le=1)
    two_turns: float = Field(0.15, ge=0, le=1)


class Lora(_Section):
    """Train low-rank adapters (Hu et al. 2021) beside frozen weights, through PEFT.

    ``rslora`` scales by alpha/√rank instead of alpha/rank (Kalajdzievski 2023); ``pissa`` starts from the weights' own largest
    singular directions instead of zero (Meng et al. 2024).
    """

    rank: int = Field(16, gt=0)
    alpha: float = Field(32.0, gt=0)
    targets: list[str] | Literal["all-linear"] = Field(
        "all-linear", description="names of the layers, all linear ones of the body by default"
    )
    dropout: float = Field(0.0, ge=0, lt=1)
    rslora: bool = False
    init: Literal["default", "pissa"] = "default"


class Optimisation(_Section):
    """How weights are updated, with warm-up and cosine decay. A step sees about ``tokens`` tokens, in parts of ``micro_tokens``.

    ``muon`` orthogonalises the updates of the body's matrices (Jordan et al. 2024) at ``muon_lr``, and leaves embeddings, heads
    and vectors to AdamW at ``lr``: a small model learns from scratch in noticeably fewer tokens with it.

    Weights that are trained stay fp32; ``dtype`` is what is computed in, and what frozen weights are kept in.
    """

    curriculum: ClassVar[bool] = False
    """Whether data files may join in later than at the first step."""

    steps: int = Field(gt=0)
    lr: float = Field(gt=0)
    optimiser: Literal["adamw", "muon"] = "adamw"
    muon_lr: float = Field(0.01, gt=0)
    tokens: int = Field(2048, gt=0)
    micro_tokens: int = Field(4096, gt=0)
    warmup: float = Field(0.05, ge=0, lt=1, description="share of the steps")
    final_lr: float = Field(0.1, ge=0, le=1, description="share of the peak left at the end")
    weight_decay: float = Field(0.0, ge=0)
    betas: tuple[Decay, Decay] = (0.9, 0.98)
    eps: float = Field(1e-8, gt=0)
    clip: float = Field(1.0, gt=0, description="the norm that a gradient is scaled down to where it is larger")
    max_skipped: int = Field(5, gt=0, description="updates in a row whose gradient isn't finite before the stage gives up")
    dtype: Literal["fp32", "bf16"] = "fp32"
    gradient_checkpointing: bool = Field(False, description="keep each layer's input only, and compute the rest again on the way back")
    max_length: int | None = Field(None, gt=1, description="tokens of a row at most; the model's own context unless given")
    lora: Lora | None = None
    save_every: int = Field(100, gt=0)
    keep_last: int = Field(2, ge=2, description="states to resume from; a damaged one falls back to the one before")
    sample_every: int = Field(50, gt=0)
    eval_every: int = Field(0, ge=0, description="steps between evaluations on held-out data, the first before any; 0: at the end only")
    keep_best: bool = Field(
        False, description="end with the weights of the lowest evaluation loss (PPO, GRPO: highest reward) instead of the last"
    )
    early_stop: int = Field(0, ge=0, description="stop after this many evaluations without a better one; 0: never")

    @property
    def files(self) -> list[Mixture]:
        """All data files that the stage reads."""
        return [part for name in ("data", "replay", "ptx") for part in getattr(self, name, [])]

    @model_validator(mode="after")
    def _files_join_in_where_they_can(self) -> Optimisation:
        late = [part.path for part in self.files if part.start > 0]
        if late and not self.curriculum:
            raise ValueError(f"{late[0]} can't join in later, which files of pretraining and SFT can: leave its start out")
        if late and len(late) == len(self.files):
            raise ValueError("all files join in later, so the first steps have nothing to learn from: leave out one's start")
        return self

    @model_validator(mode="after")
    def _evaluations_are_asked_for(self) -> Optimisation:
        if (self.keep_best or self.early_stop) and not self.eval_every:
            raise ValueError("keep_best and early_stop need evaluations on the way: set eval_every")
        return self


class Mixture(_Section):
    """One data file or folder (relative to the data folder) or ``hf:owner/name``, how often an epoch holds it, when it joins in."""

    path: str
    columns: dict[str, str] = Field({}, description="our field names → the file's own, for example {prompt: question}")
    weight: float = Field(1.0, gt=0)
    start: float = Field(0.0, ge=0, lt=1, description="share of the steps after which the file joins in (pretraining and SFT)")


class LanguageStage(Optimisation):
    """What pretraining and supervised fine-tuning share.

    ``packing`` puts several examples into one row, told apart by their position ids, instead of padding; ``neftune`` is the noise
    added to the embeddings while training (Jain et al. 2023: 5, 10 or 15).
    """

    curriculum: ClassVar[bool] = True

    packing: bool = False
    neftune: float = Field(0.0, ge=0)


class BaseStage(LanguageStage):
    """Language modelling on plain text, from scratch or from a checkpoint."""

    data: list[Mixture]
    held_out: float = Field(0.0, ge=0, lt=1, description="share of the texts kept for the evaluation loss")


class PretrainStage(BaseStage):
    """``trainers pretrain``: without a checkpoint to start from, a new model of this shape."""

    shape: Architecture = Architecture()


class SftStage(LanguageStage):
    """Supervised fine-tuning: the loss looks at the assistant's tokens only. ``replay`` mixes plain text in."""

    data: list[Mixture]
    replay: list[Mixture] = []
    held_out: float = Field(0.02, ge=0, lt=1, description="share of the rows kept for the evaluation loss")


class RewardStage(Optimisation):
    """A reward model: Bradley–Terry on preference pairs, initialised from the SFT model."""

    data: list[Mixture]
    loss: Literal["log_sig", "log_exp"] = Field("log_sig", description="two names of one function")
    centre: float = Field(0.0, ge=0, description="weight of (chosen + rejected)², which keeps rewards around zero")
    held_out: float = Field(0.02, ge=0, lt=1)
    reference_prompts: int = Field(200, gt=0, description="how many prompts' SFT replies give the rewards their scale")


class PpoStage(Optimisation):
    """PPO with PTX. A step is one rollout of ``prompts`` replies and ``epochs`` passes over it in ``minibatches``."""

    data: list[Mixture]
    ptx: list[Mixture] = []
    ptx_coef: float = Field(1.0, ge=0, description="0 switches PTX off")
    ptx_mixing: Literal["additive", "convex"] = Field(
        "additive", description="PPO + c·PTX (InstructGPT, eq. 2), or (1 − c)·PPO + c·PTX (ColossalChat)"
    )
    ptx_tokens: int = Field(1024, gt=0)
    prompts: int = Field(64, gt=0)
    epochs: int = Field(2, gt=0)
    minibatches: int = Field(2, gt=0)
    critic_lr: float = Field(1e-3, gt=0)
    critic_warmup: int = Field(0, ge=0, description="first steps that update only the critic")
    kl_coef: float = Field(0.05, ge=0, description="weight of the KL penalty; where an adaptive one starts")
    kl_target: float = Field(0.0, ge=0, description="nats per reply that an adaptive coefficient aims at; 0 keeps it fixed")
    kl_horizon: int = Field(10000, gt=0, description="replies over which an adaptive coefficient reacts (Ziegler et al. 2019)")
    max_tokens: int = Field(48, gt=0)
    temperature: float = Field(1.0, gt=0)
    gamma: float = Field(1.0, ge=0, le=1)
    lam: float = Field(0.95, ge=0, le=1)
    clip_ratio: float = Field(0.2, gt=0, lt=1)
    clip_value: float = Field(0.2, gt=0)
    skip_ratio: float = Field(20.0, gt=1, description="an update whose mean probability ratio is above this is left out and counted")
    value_coef: float = Field(0.5, ge=0)
    missing_eos_penalty: float = Field(1.0, ge=0)
    normalise_rewards: bool = Field(True, description="measure rewards in standard deviations of SFT's, from SFT's mean")
    reward_clip: float = Field(5.0, gt=0, description="rewards (so measured) are clipped to ± this")
    whiten_rewards: bool = Field(False, description="scale the tokens' rewards of a rollout to variance 1, keeping their mean")
    whiten_advantages: bool = True
    held_out: float = Field(0.0, ge=0, lt=1, description="share of the prompts kept for the evaluation reward")
    share_backbone: bool = Field(
        False, description="one SFT model with two LoRA adapters is actor and critic; without them it is the reference (needs lora)"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> PpoStage:
        if self.ptx_mixing == "convex" and self.ptx_coef > 1:
            raise ValueError("a convex ptx_coef is a share: set it between 0 and 1")
        if self.share_backbone and self.lora is None:
            raise ValueError("share_backbone needs adapters: set lora")
        if self.share_backbone and self.lora and self.lora.init != "default":
            raise ValueError(
                "share_backbone has the bare backbone for its reference, so adapters must start at nothing: leave lora.init out"
            )
        return self


class DpoStage(Optimisation):
    """Learning from preference pairs without a reward model (trainers.losses.preference has the formulas).

    ``cdpo`` and ``robust`` need ``label_smoothing``, the share of wrong labels; SimPO and ORPO need no reference.
    """

    data: list[Mixture]
    loss: Literal["sigmoid", "cdpo", "robust", "ipo", "hinge", "simpo", "orpo"] = "sigmoid"
    beta: float = Field(0.1, gt=0, description="how dearly a nat of distance from the reference is paid; IPO's τ, ORPO's λ")
    label_smoothing: float = Field(0.0, ge=0, lt=0.5)
    gamma: float = Field(0.5, ge=0, description="SimPO's target margin")
    nll_coef: float = Field(0.0, ge=0, description="weight of the chosen reply's mean cross-entropy, which keeps it likely")
    held_out: float = Field(0.02, ge=0, lt=1)

    @property
    def needs_reference(self) -> bool:
        """Whether the loss compares with the model that training started from."""
        return self.loss not in ("simpo", "orpo")

    @model_validator(mode="after")
    def _smoothing_is_given(self) -> DpoStage:
        if (self.loss in ("cdpo", "robust")) != (self.label_smoothing > 0):
            raise ValueError("label_smoothing above 0 belongs to the losses cdpo and robust: set both or neither")
        return self


class KtoStage(Optimisation):
    """Learning from single replies that were called good or bad (Ethayarajh et al. 2024). A pair counts as one of each."""

    data: list[Mixture]
    beta: float = Field(0.1, gt=0)
    desirable_weight: float = Field(1.0, gt=0)
    undesirable_weight: float = Field(1.0, gt=0)
    held_out: float = Field(0.02, ge=0, lt=1)


class RewardTerm(_Section):
    """A part of a reward, and its weight: a built-in of trainers.rewards, ``file.py:function``, ``module:function``, ``reward_model``."""

    name: str
    weight: float = 1.0


class GrpoStage(Optimisation):
    """Group-relative policy optimisation. A step is ``samples`` replies to each of ``prompts`` prompts and ``epochs`` passes over them."""

    data: list[Mixture]
    rewards: list[RewardTerm] = Field(min_length=1)
    loss: Literal["grpo", "dapo", "dr_grpo"] = Field("dapo", description="what counts alike: replies, tokens, or tokens of a full length")
    prompts: int = Field(16, gt=0)
    samples: int = Field(8, gt=1)
    epochs: int = Field(1, gt=0)
    minibatches: int = Field(1, gt=0)
    max_tokens: int = Field(48, gt=0)
    temperature: float = Field(1.0, gt=0)
    clip_low: float = Field(0.2, gt=0, lt=1)
    clip_high: float = Field(0.28, gt=0)
    kl_coef: float = Field(0.0, ge=0, description="weight of k3 to the reference in the loss; 0 needs no reference")
    held_out: float = Field(0.02, ge=0, lt=1)

    @property
    def needs_reward_model(self) -> bool:
        """Whether a term of the reward is a reward model's."""
        return any(term.name == "reward_model" for term in self.rewards)


class Recipe(_Section):
    """What ``trainers run`` does. Sections that are absent are skipped; without ``base``, ``--base`` names a checkpoint.

    ``rm``, ``ppo``, ``dpo``, ``kto`` and ``grpo`` all start from what ``sft`` made, without it from what ``sft`` would start from.
    """

    name: str
    title: dict[str, str] = {}
    seed: int = 0
    languages: list[str] = ["en"]
    world: World | None = None
    model: Architecture = Architecture()
    vocab_size: int = Field(2048, gt=0)
    base: BaseStage | None = None
    sft: SftStage | None = None
    rm: RewardStage | None = None
    ppo: PpoStage | None = None
    dpo: DpoStage | None = None
    kto: KtoStage | None = None
    grpo: GrpoStage | None = None
    evaluate: list[str] = []
    bars: list[Bar] = []

    @property
    def stages(self) -> dict[str, Optimisation]:
        """The sections there are, by the names of their checkpoints, in the order they are trained in."""
        sections = {"base": self.base, "sft": self.sft, "rm": self.rm, "rl": self.ppo, "dpo": self.dpo, "kto": self.kto, "grpo": self.grpo}
        return {name: section for name, section in sections.items() if section is not None}

    @model_validator(mode="after")
    def _has_work(self) -> Recipe:
        if not self.stages:
            raise ValueError("there is nothing to train: add a section, such as sft")
        return self

    @model_validator(mode="after")
    def _rewards_come_from_somewhere(self) -> Recipe:
        for name, asks in (("ppo", self.ppo is not None), ("grpo's reward_model", self.grpo is not None and self.grpo.needs_reward_model)):
            if asks and self.rm is None:
                raise ValueError(f"{name} needs a reward model: add a section rm")
        return self


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
