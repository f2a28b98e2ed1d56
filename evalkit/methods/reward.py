"""What a reward model thinks of a checkpoint's replies, beside those of a reference, and how far the two have drifted apart."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from evalkit.bench import Bench
from evalkit.methods import Record
from evalkit.metrics.win_rate.formula import win_rate
from evalkit.models import local
from evalkit.statistics import mean_interval, wilson
from evalkit.types import PromptRow, RewardTask, Sample
from modelkit.chat import Message, encode_prompt, stop_ids
from modelkit.errors import UserError
from modelkit.fingerprint import fingerprint
from modelkit.generation.loop import Completion, generate
from modelkit.generation.sampling import Sampling
from modelkit.generation.stream import decode
from modelkit.records import MethodScore
from modelkit.reward import RewardModel
from modelkit.scoring.logprobs import continuation_logprobs

_SLICE = 64

Replies = list[list[Completion]]
"""``replies[prompt][sample]``."""


def measure(task: RewardTask, items: Sequence[PromptRow], bench: Bench, record: Record) -> dict[str, Any]:
    """Sample replies at temperature 1 and score them with the reward model; do the same with the reference.

    Both draw the same random numbers, which depend on the prompt's place in the task. A checkpoint that is the reference is
    measured once.

    :raises UserError: when the two tokenise prompts differently.
    """
    context = bench.model.context
    prompts = {item.id: encode_prompt(bench.tokenizer, item.messages) for item in items}
    asked = [item for item in items if context is None or len(prompts[item.id]) < context]
    fitting = {item.id for item in asked}
    no_room = f"the prompt leaves no room for a reply in the context of {context} tokens"
    record([Sample(item, "reward", prompt=item.question, reason=no_room) for item in items if item.id not in fitting])
    facts = {"reward_model": fingerprint(task.reward_model), "reference": fingerprint(task.reference), "samples": task.samples}
    if not record.wanted(asked):
        return facts

    reference = (
        None if facts["reference"] == bench.fingerprint else local.load(task.reference, "language", bench.model.dtype, bench.model.device)
    )
    if reference and any(encode_prompt(reference.tokenizer, item.messages) != prompts[item.id] for item in asked):
        raise UserError(f"{bench.checkpoint} and {task.reference} tokenise prompts differently, so their KL divergence means nothing.")
    judge = RewardModel.load(task.reward_model, bench.model.device)
    place = {item.id: i for i, item in enumerate(task.items)}
    for start in range(0, len(asked), _SLICE):
        part = asked[start : start + _SLICE]
        if not record.wanted(part):
            continue
        ids = [prompts[item.id] for item in part]
        seeds = [bench.seed + task.samples * place[item.id] for item in part]
        replies = _sample(task, bench.model, ids, seeds)
        others = _sample(task, reference, ids, seeds) if reference else replies
        texts = [[[decode(bench.tokenizer, one.ids) for one in row] for row in rows] for rows in (replies, others)]
        rewards = _judge(judge, part, texts)
        record(
            [
                Sample(
                    item,
                    "reward",
                    prompt=item.question,
                    extra={
                        "replies": texts[0][i],
                        "rewards": rewards[0][i],
                        "reference_replies": texts[1][i],
                        "reference_rewards": rewards[1][i],
                        "log_ratios": _log_ratios(reference, ids[i], replies[i]),
                        "lengths": [len(one.ids) for one in replies[i]],
                        "finishes": [one.finish for one in replies[i]],
                    },
                )
                for i, item in enumerate(part)
            ]
        )
        bench.model.tokens_computed += sum(len(prompt) + sum(len(one.ids) for one in row) for prompt, row in zip(ids, replies, strict=True))
    return facts


def score(task: RewardTask, samples: Sequence[Sample]) -> MethodScore:
    """Mean reward beside the reference's.

    KL is the mean over the checkpoint's replies of Σ log p − log p_reference, in nats: an unbiased estimate of the
    sequence-level KL divergence (Schulman's k1).
    """
    scored = [sample.extra for sample in samples if sample.reason is None]
    if not scored:
        return MethodScore(metric="reward", value=None, n=len(samples), unscored=len(samples))
    means, other_means = ([statistics.fmean(extra[name]) for extra in scored] for name in ("rewards", "reference_rewards"))
    flat_other = [reward for extra in scored for reward in extra["reference_rewards"]]
    sd = statistics.stdev(flat_other) if len(flat_other) > 1 else 0.0
    difference = statistics.fmean(means) - statistics.fmean(other_means)
    wins = win_rate(means, other_means)
    return MethodScore(
        metric="reward",
        value=statistics.fmean(means),
        n=len(samples),
        unscored=len(samples) - len(scored),
        ci95=mean_interval(means),
        reward_reference_mean=statistics.fmean(other_means),
        reference_sd=sd,
        effect_size=difference / sd if sd else 0.0 if difference == 0 else None,
        win_rate=wins["win_rate"],
        win_rate_ci95=wilson(wins["wins"] + wins["ties"] / 2, len(means)),
        kl_to_reference=statistics.fmean(gap for extra in scored for gap in extra["log_ratios"]),
        length=statistics.fmean(length for extra in scored for length in extra["lengths"]),
        eos_rate=statistics.fmean(finish == "stop" for extra in scored for finish in extra["finishes"]),
    )


def _sample(task: RewardTask, speaker: local.LocalModel, prompts: Sequence[Sequence[int]], seeds: Sequence[int]) -> Replies:
    """*task.samples* replies to each prompt."""
    settings = [Sampling(task.max_tokens, temperature=1.0, seed=seed) for seed in seeds]
    return generate(speaker.model, prompts, settings, stop_ids(speaker.tokenizer, speaker.model), n=task.samples)


def _judge(judge: RewardModel, items: Sequence[PromptRow], speakers: Sequence[list[list[str]]]) -> list[list[list[float]]]:
    """The rewards of all speakers' replies. Each different reply is scored once, so equal replies have equal rewards."""
    different = list(dict.fromkeys((i, text) for texts in speakers for i, row in enumerate(texts) for text in row))
    said: list[list[Message]] = [[*items[i].messages, {"role": "assistant", "content": text}] for i, text in different]
    rewards = dict(zip(different, judge.score(said), strict=True))
    return [[[rewards[i, text] for text in row] for i, row in enumerate(texts)] for texts in speakers]


def _log_ratios(reference: local.LocalModel | None, prompt: Sequence[int], replies: Sequence[Completion]) -> list[float]:
    """Σ log p − log p_reference of each reply."""
    if reference is None:
        return [0.0] * len(replies)
    others = continuation_logprobs(reference.model, [prompt] * len(replies), [reply.ids for reply in replies])
    return [sum(reply.logprobs) - float(other.double().sum()) for reply, other in zip(replies, others, strict=True)]
