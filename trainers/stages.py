"""The stages as functions: settings, a job and the checkpoints to start from → a checkpoint directory in the job's run.

Each reads its data, trains (or goes on where it stopped) and saves; it returns what became of the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelkit import checkpoint
from modelkit.chat import stop_ids
from modelkit.context import longest_sequence
from modelkit.device import dtype_of
from modelkit.errors import UserError
from modelkit.fingerprint import fingerprint
from modelkit.gptq.layer import always_dequantise
from modelkit.reward import RewardReference
from trainers.data import dataset
from trainers.data.dataset import Counts, Example, Prompt
from trainers.data.order import hold_out, hold_out_whole
from trainers.job import Job, same_tokenizer
from trainers.recipe import Architecture, BaseStage, DpoStage, GrpoStage, KtoStage, Optimisation, PpoStage, RewardStage, SftStage
from trainers.seeds import derive

if TYPE_CHECKING:
    import torch
    from transformers import LlamaConfig, PreTrainedModel

    from trainers.logprobs import Reference
    from trainers.lora import Kind, Trainee

_PROBES = 6
_SPREAD = 1e-6
"""Rewards with a smaller standard deviation are all the same, and nothing can be measured by it."""
REPLY_TOKENS = 48
"""How long the replies are that give a reward model its scale, where nothing else says so."""


def pretrain(settings: BaseStage, job: Job, start: Path | None = None, shape: Architecture | None = None) -> Counts:
    """Language modelling on plain texts: a new model of a *shape*, or the checkpoint *start* trained further."""
    from trainers import lora
    from trainers.sft import LanguageModelling

    counts = Counts()
    if start is None:
        assert shape is not None, "a new model needs a shape"
        if settings.lora:
            raise UserError("a new model has no weights for adapters to build on: leave lora out, or start from a checkpoint.")
        model = new_model(shape, job)
        trainee = lora.adapt(model, settings, "language")
    else:
        trainee = _load(start, settings, job)
    rows = job.rows(settings.data, "text", counts)
    texts = dataset.text_examples(rows, job.tokenizer, _context(trainee.model, settings), counts, job.tokens)
    examples, held_out = hold_out_whole(texts, [example.row for example in texts], settings.held_out, job.seed, job.name)
    _tell_epochs([len(example.ids) for example in examples], settings)
    stage = LanguageModelling(job.name, trainee.model, job.tokenizer, examples, held_out, job.probes, settings, job.seed, job.strategy)
    job.save(trainee, start, job.train(stage, examples), counts)
    return counts


def sft(settings: SftStage, job: Job, start: Path) -> Counts:
    """Supervised fine-tuning of *start* on conversations."""
    from trainers.sft import LanguageModelling

    counts = Counts()
    trainee = _load(start, settings, job)
    context = _context(trainee.model, settings)
    chats = dataset.chat_examples(job.rows(settings.data, "sft", counts), job.tokenizer, context, counts, job.tokens)
    examples, held_out = hold_out_whole(chats, [example.row for example in chats], settings.held_out, job.seed, job.name)
    probes = job.probes or _openings(held_out or examples, job)
    if settings.replay:
        replay = job.rows(settings.replay, "text", counts)
        examples = examples + dataset.text_examples(replay, job.tokenizer, context, counts, job.tokens)
    _tell_epochs([len(example.ids) for example in examples], settings)
    stage = LanguageModelling(job.name, trainee.model, job.tokenizer, examples, held_out, probes, settings, job.seed, job.strategy)
    job.save(trainee, start, job.train(stage, examples), counts)
    return counts


def rm(settings: RewardStage, job: Job, start: Path, scale_on: Sequence[Prompt] = (), max_tokens: int = REPLY_TOKENS) -> Counts:
    """A reward model from the language model *start*, or a reward model trained further.

    The language model's replies to the prompts *scale_on* give the rewards their scale, of a reward model those of the one that it came
    from, while that is there. Without such prompts those of the held-out pairs are taken, and then those of the others.
    """
    from trainers.reward import RewardModelling, hold_out_pairs

    counts = Counts()
    trainee = _load(start, settings, job, "reward")
    context = _context(trainee.model, settings)
    pairs = dataset.pairs(job.rows(settings.data, "preference", counts), job.tokenizer, context, counts, job.tokens)
    training, held_out = hold_out_pairs(pairs, settings.held_out, job.seed, job.name)
    _tell_epochs([len(pair.chosen) + len(pair.rejected) for pair in training], settings)
    stage = RewardModelling(trainee.model, training, held_out, settings, job.seed, job.strategy)
    finished = job.train(stage, stage.training)
    if not scale_on:
        room = context - max_tokens
        openings = dict.fromkeys(tuple(pair.chosen[: pair.starts[0]]) for pair in (*held_out, *training))
        scale_on = [Prompt(list(ids), "") for ids in openings if len(ids) <= room][: settings.reference_prompts]
    extra = {}
    writer = _language_model(start)
    if writer is not None and scale_on:
        reference = reward_reference(writer, trainee.model, scale_on, settings, job, max_tokens)
        finished.metrics.update(sft_reward_mean=reference.mean, sft_reward_sd=reference.sd)
        extra = {"reward_reference.json": reference.to_json()}
    job.save(trainee, start, finished, counts, extra)
    return counts


def ppo(settings: PpoStage, job: Job, start: Path, reward: Path) -> Counts:
    """PPO with PTX of the language model *start* on the rewards of the checkpoint *reward*. Saves the critic as well."""
    import torch

    from trainers.lora import Trainee, set_up_recomputation
    from trainers.ppo.models import Cast, Separate, SharedBackbone
    from trainers.ppo.train import Ppo

    counts = Counts()
    same_tokenizer(start, reward)
    scale = RewardReference.read(reward)
    if scale is None and settings.normalise_rewards:
        raise UserError(
            f"{reward} has no reward_reference.json, the scale of its rewards: train it with `trainers rm`, "
            "or take rewards as they are (--set normalise_rewards=false)."
        )
    if scale is not None and settings.normalise_rewards and scale.sd < _SPREAD:
        raise UserError(
            f"{reward} gave the same reward to all {len(scale.rewards)} replies that its scale rests on: look for the reason with "
            "`trainers doctor rm`, train it with more reference_prompts, or take rewards as they are (--set normalise_rewards=false)."
        )
    cast: Cast
    dtype = dtype_of(settings.dtype)
    if settings.share_backbone and settings.lora:
        actor = critic = None
        if checkpoint.is_quantised(start):
            raise UserError(f"{start} is quantised, and share_backbone ends with whole models: leave it out, or start from whole weights.")
        backbone = _frozen(start, dtype, job)
        set_up_recomputation(backbone, settings)
        torch.manual_seed(derive(job.seed, job.name, "weights"))
        cast = SharedBackbone(backbone, settings.lora)
    else:
        actor, critic = _load(start, settings, job), _load(reward, settings, job, "reward")
        cast = Separate(actor.model, critic.model, _frozen(start, dtype, job))
    judge = _frozen(reward, dtype, job, "reward")
    context = _context(judge, settings)
    prompts = dataset.prompts(job.rows(settings.data, "prompts", counts), job.tokenizer, context - settings.max_tokens, counts)
    ptx: list[Example] = []
    if settings.ptx:
        ptx = dataset.chat_examples(job.rows(settings.ptx, "sft", counts), job.tokenizer, context, counts, job.tokens)
    training, held_out = hold_out(prompts, settings.held_out, job.seed, job.name)
    probes = job.probes or (held_out or training)[:_PROBES]
    scale = scale or RewardReference([], 0.0, 1.0)
    stage = Ppo(cast, judge, job.tokenizer, training, ptx, probes, scale, settings, job.seed, job.strategy, held_out)
    finished = job.train(stage, training)
    job.save(critic or Trainee(cast.plain("critic")), reward, finished, counts, name="critic")
    job.save(actor or Trainee(cast.plain("actor")), start, finished, counts)
    return counts


def dpo(settings: DpoStage, job: Job, start: Path) -> Counts:
    """DPO and its relatives: *start* learns from preference pairs, and is the reference."""
    from trainers.dpo import PreferenceOptimisation
    from trainers.reward import hold_out_pairs

    counts = Counts()
    trainee = _load(start, settings, job)
    context = _context(trainee.model, settings)
    pairs = dataset.pairs(job.rows(settings.data, "preference", counts), job.tokenizer, context, counts, job.tokens)
    training, held_out = hold_out_pairs(pairs, settings.held_out, job.seed, job.name)
    probes = job.probes or [_opening(pair.chosen, pair.starts[0], job) for pair in (held_out or training)[:_PROBES]]
    reference = _reference(start, trainee, job) if settings.needs_reference else None
    _tell_epochs([len(pair.chosen) + len(pair.rejected) for pair in training], settings)
    stage = PreferenceOptimisation(trainee.model, reference, job.tokenizer, training, held_out, probes, settings, job.seed, job.strategy)
    job.save(trainee, start, job.train(stage, training), counts)
    return counts


def kto(settings: KtoStage, job: Job, start: Path) -> Counts:
    """KTO: *start* learns from replies called good or bad (a preference pair is one of both), and is the reference."""
    from trainers.kto import KahnemanTversky

    counts = Counts()
    trainee = _load(start, settings, job)
    context = _context(trainee.model, settings)
    rows = dataset.labelled(job.rows(settings.data, "unpaired", counts), job.tokenizer, context, counts, job.tokens)
    training, held_out = hold_out_whole(rows, [row.prompt for row in rows], settings.held_out, job.seed, job.name)
    probes = job.probes or [_opening(row.ids, row.start, job) for row in (held_out or training)[:_PROBES]]
    _tell_epochs([len(row.ids) for row in training], settings)
    stage = KahnemanTversky(
        trainee.model, _reference(start, trainee, job), job.tokenizer, training, held_out, probes, settings, job.seed, job.strategy
    )
    job.save(trainee, start, job.train(stage, training), counts)
    return counts


def grpo(settings: GrpoStage, job: Job, start: Path, reward: Path | None = None) -> Counts:
    """GRPO of *start* on rule-based rewards, a reward model's, or both."""
    from trainers.grpo import GroupRelative, Judge

    counts = Counts()
    if reward is not None:
        same_tokenizer(start, reward)
    trainee = _load(start, settings, job)
    judge = Judge(settings, job.tokenizer, None if reward is None else _frozen(reward, dtype_of(settings.dtype), job, "reward"))
    room = _context(trainee.model, settings) - settings.max_tokens
    prompts = dataset.prompts(job.rows(settings.data, "prompts", counts), job.tokenizer, room, counts)
    training, held_out = hold_out(prompts, settings.held_out, job.seed, job.name)
    reference = _frozen(start, dtype_of(settings.dtype), job) if settings.kl_coef else None
    probes = job.probes or (held_out or training)[:_PROBES]
    stage = GroupRelative(trainee.model, reference, judge, job.tokenizer, training, held_out, probes, settings, job.seed, job.strategy)
    job.save(trainee, start, job.train(stage, training), counts)
    return counts


def new_model(shape: Architecture, job: Job) -> PreTrainedModel:
    """A LLaMA-shaped model with random weights, for the job's tokenizer."""
    import torch
    from transformers import LlamaForCausalLM

    tokenizer = job.tokenizer
    torch.manual_seed(derive(job.seed, job.name, "weights"))
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    return LlamaForCausalLM(llama(shape, len(tokenizer), **ends))


def llama(shape: Architecture, vocab_size: int, **ends: Any) -> LlamaConfig:
    """The configuration of a model of that *shape*; *ends* are the ids that begin, end and pad a sequence."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=shape.context,
        rope_parameters={"rope_type": "default", "rope_theta": shape.rope_theta},
        tie_word_embeddings=True,
        **ends,
    )


def reward_reference(
    start: Path, reward: PreTrainedModel, prompts: Sequence[Prompt], settings: RewardStage, job: Job, max_tokens: int
) -> RewardReference:
    """Rewards of replies that the language model *start* samples to *prompts*."""
    from modelkit.generation.sampling import Sampling
    from trainers.ppo.rollout import rewards_of, sample

    model = checkpoint.load_model(start, device=job.strategy.device)
    seeds = [derive(job.seed, "reward reference", i) for i in range(len(prompts))]
    sampling = [Sampling(max_tokens=max_tokens, seed=seed) for seed in seeds]
    reward.eval()
    replies = sample(model, [prompt.ids for prompt in prompts], sampling, stop_ids(job.tokenizer, model))
    return RewardReference.of(rewards_of(reward, replies, settings.micro_tokens, job.strategy).tolist())


def _language_model(start: Path) -> Path | None:
    """The language model that a checkpoint is, or that a reward model was made from; ``None`` where that isn't known, or it is gone."""
    while start.is_dir() and checkpoint.is_reward_model(start):
        info = checkpoint.read_stage(start)
        if info is None or info.parent is None:
            return None
        start = start / info.parent
    return start if start.is_dir() else None


def _load(start: Path, settings: Optimisation, job: Job, kind: Kind = "language") -> Trainee:
    from trainers import lora

    return lora.load(start, kind, settings, job.tokenizer, derive(job.seed, job.name, "weights"), _place(start, job))


def _frozen(start: Path, dtype: torch.dtype, job: Job, kind: Kind = "language") -> PreTrainedModel:
    """A model that only answers; a quantised one reckons as it does where adapters are trained on it."""
    model = checkpoint.load_model(start, kind, dtype, _place(start, job))
    always_dequantise(model)
    return model


def _reference(start: Path, trainee: Trainee, job: Job) -> Reference:
    """*start* once more, to compute as the *trainee* does before it has learnt anything."""
    from trainers.logprobs import Reference

    dtype = trainee.model.dtype

    return Reference(lambda: _frozen(start, dtype, job), fingerprint(start), job.run.state(job.name))


def _place(start: Path, job: Job) -> torch.device:
    """Where to load *start*: quantised layers can't be moved afterwards; others go where, and in the slices that, the strategy wants."""
    import torch

    return job.strategy.device if checkpoint.is_quantised(start) else torch.device("cpu")


def _context(model: PreTrainedModel, settings: Optimisation) -> int:
    """The most tokens that a row may have: those that the model was made for, or fewer if so set.

    :raises UserError: for more, and for a model without such a number (ALiBi) where none is set.
    """
    own = longest_sequence(model.config)
    wanted = settings.max_length or own
    if wanted is None:
        raise UserError(f"models of type {model.config.model_type} know no longest row: set max_length.")
    if own is not None and wanted > own:
        raise UserError(f"max_length is {wanted}, and the model was made for {own} tokens: set it to that at most.")
    print(f"rows have {wanted:,} tokens at most")
    return wanted


def _tell_epochs(lengths: Sequence[int], settings: Optimisation) -> None:
    """Say how much there is to learn from, since steps are counted in tokens and people think in epochs."""
    rows, tokens = len(lengths), sum(lengths)
    print(f"{rows:,} rows, {tokens:,} tokens: {settings.steps:,} steps are about {settings.steps * settings.tokens / tokens:.2g} epochs")


def _openings(examples: Sequence[Example], job: Job) -> list[Prompt]:
    """The first examples up to where the assistant begins."""
    return [_opening(example.ids, example.labelled.index(True), job) for example in examples[:_PROBES]]


def _opening(ids: Sequence[int], end: int, job: Job) -> Prompt:
    from modelkit.generation.stream import decode

    return Prompt(list(ids[:end]), decode(job.tokenizer, list(ids[:end])))
