"""What a reward model thinks of a checkpoint's replies, beside those of a reference, and how far the two have drifted apart."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from evalkit.bench import Bench
from evalkit.statistics import mean_interval, wilson
from evalkit.types import Measured, PromptRow, RewardTask, Sample
from modelkit.chat import Message, encode_prompt, stop_ids
from modelkit.checkpoint import load_model, load_tokenizer
from modelkit.errors import UserError
from modelkit.fingerprint import fingerprint
from modelkit.generation.loop import Completion, generate
from modelkit.generation.sampling import Sampling
from modelkit.generation.stream import decode
from modelkit.records import MethodScore
from modelkit.reward import RewardModel
from modelkit.scoring.logprobs import continuation_logprobs

Replies = list[list[Completion]]
"""``replies[prompt][sample]``."""


@dataclass(frozen=True)
class Judged:
    """A speaker's replies as text, and their rewards, both ``[prompt][sample]``."""

    texts: list[list[str]]
    rewards: list[list[float]]


def measure(task: RewardTask, bench: Bench) -> Measured:
    """Sample replies at temperature 1 and score them with the reward model; do the same with the reference.

    Both draw the same random numbers. KL is the mean over the checkpoint's replies of Σ log p − log p_reference, in nats: an
    unbiased estimate of the sequence-level KL divergence (Schulman's k1). A checkpoint that is the reference is measured once.

    :raises UserError: when the two tokenise prompts differently.
    """
    prompts = [encode_prompt(bench.tokenizer, item.messages) for item in task.items]
    asked = [i for i, prompt in enumerate(prompts) if bench.context is None or len(prompt) < bench.context]
    items, prompts = [task.items[i] for i in asked], [prompts[i] for i in asked]
    replies = _sample(task, bench, bench, prompts, "replies")
    others, kl = replies, 0.0
    reference = _reference(task, bench)
    if reference is not None:
        if [encode_prompt(reference.tokenizer, item.messages) for item in items] != prompts:
            raise UserError(f"{bench.checkpoint} and {task.reference} tokenise prompts differently, so their KL divergence means nothing.")
        others = _sample(task, reference, bench, prompts, "replies of the reference")
        kl = _divergence(reference, prompts, replies)
    judge = RewardModel.load(task.reward_model, bench.device)
    own, other = _judge(judge, items, [_texts(bench, replies), _texts(reference or bench, others)])

    no_room = f"the prompt leaves no room for a reply in the context of {bench.context} tokens"
    samples = [Sample(item, "reward", prompt=item.question, reason=no_room) for i, item in enumerate(task.items) if i not in set(asked)]
    for i, item in enumerate(items):
        extra = {
            "replies": own.texts[i],
            "rewards": own.rewards[i],
            "reference_replies": other.texts[i],
            "reference_rewards": other.rewards[i],
        }
        samples.append(Sample(item, "reward", prompt=item.question, extra=extra))
    facts = {"reward_model": fingerprint(task.reward_model), "reference": fingerprint(task.reference), "samples": task.samples}
    return Measured(_score(own.rewards, other.rewards, replies, len(task.items), kl), samples, facts)


def _reference(task: RewardTask, bench: Bench) -> Bench | None:
    """The reference on a bench of its own, or ``None`` where it is the checkpoint itself."""
    mark = fingerprint(task.reference)
    if mark == bench.fingerprint:
        return None
    model = load_model(task.reference, "language", bench.dtype, bench.device)
    return Bench(task.reference, mark, model, load_tokenizer(task.reference), bench.device, bench.dtype)


def _sample(task: RewardTask, speaker: Bench, bench: Bench, prompts: Sequence[Sequence[int]], what: str) -> Replies:
    """*task.samples* replies to each prompt; tokens are counted on *bench*."""
    replies = generate(
        speaker.model,
        prompts,
        [Sampling(task.max_tokens, temperature=1.0, seed=bench.seed + task.samples * i) for i in range(len(prompts))],
        stop_ids(speaker.tokenizer, speaker.model),
        n=task.samples,
        on_progress=bench.watch(f"{task.name} · {what}", len(prompts) * task.samples),
    )
    bench.tokens_computed += sum(len(prompt) + sum(len(one.ids) for one in row) for prompt, row in zip(prompts, replies, strict=True))
    return replies


def _texts(speaker: Bench, replies: Replies) -> list[list[str]]:
    return [[decode(speaker.tokenizer, one.ids) for one in row] for row in replies]


def _judge(judge: RewardModel, items: Sequence[PromptRow], speakers: Sequence[list[list[str]]]) -> list[Judged]:
    """The rewards of all speakers' replies. Each different reply is scored once, so equal replies have equal rewards."""
    different = list(dict.fromkeys((i, text) for texts in speakers for i, row in enumerate(texts) for text in row))
    said: list[list[Message]] = [[*items[i].messages, {"role": "assistant", "content": text}] for i, text in different]
    rewards = dict(zip(different, judge.score(said), strict=True))
    return [Judged(texts, [[rewards[i, text] for text in row] for i, row in enumerate(texts)]) for texts in speakers]


def _divergence(reference: Bench, prompts: Sequence[Sequence[int]], replies: Replies) -> float:
    """Mean of Σ log p − log p_reference over the replies (0 where there is none)."""
    flat = [(prompt, completion) for prompt, row in zip(prompts, replies, strict=True) for completion in row]
    others = continuation_logprobs(reference.model, [prompt for prompt, _ in flat], [completion.ids for _, completion in flat])
    gaps = [sum(completion.logprobs) - float(other.double().sum()) for (_, completion), other in zip(flat, others, strict=True)]
    return statistics.fmean(gaps) if gaps else 0.0


def _score(own: list[list[float]], other: list[list[float]], replies: Replies, asked: int, kl: float) -> MethodScore:
    if not own:
        return MethodScore(metric="reward", value=None, n=asked, unscored=asked)
    means, other_means = ([statistics.fmean(row) for row in rewards] for rewards in (own, other))
    flat_other = [reward for row in other for reward in row]
    sd = statistics.stdev(flat_other) if len(flat_other) > 1 else 0.0
    difference = statistics.fmean(means) - statistics.fmean(other_means)
    wins = [0.5 if left == right else float(left > right) for left, right in zip(means, other_means, strict=True)]
    completions = [completion for row in replies for completion in row]
    return MethodScore(
        metric="reward",
        value=statistics.fmean(means),
        n=asked,
        unscored=asked - len(own),
        ci95=mean_interval(means),
        reward_reference_mean=statistics.fmean(other_means),
        reference_sd=sd,
        effect_size=difference / sd if sd else 0.0 if difference == 0 else None,
        win_rate=statistics.fmean(wins),
        win_rate_ci95=wilson(sum(wins), len(wins)),
        kl_to_reference=kl,
        length=statistics.fmean(len(one.ids) for one in completions),
        eos_rate=statistics.fmean(one.finish == "stop" for one in completions),
    )
