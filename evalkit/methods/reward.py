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


@dataclass(frozen=True)
class Reply:
    """A sampled reply with its reward."""

    text: str
    completion: Completion
    reward: float


def measure(task: RewardTask, bench: Bench) -> Measured:
    """Sample replies at temperature 1 and score them with the reward model; do the same with the reference.

    Both draw the same random numbers. KL is the mean over the checkpoint's replies of Σ log p − log p_reference, in nats: an
    unbiased estimate of the sequence-level KL divergence (Schulman's k1). A checkpoint that is the reference is measured once.
    """
    same = bench.fingerprint == fingerprint(task.reference)
    prompts = [encode_prompt(bench.tokenizer, item.messages) for item in task.items]
    asked = [i for i, prompt in enumerate(prompts) if bench.context is None or len(prompt) < bench.context]
    items, prompts = [task.items[i] for i in asked], [prompts[i] for i in asked]
    judge = RewardModel.load(task.reward_model, bench.device)
    replies = _replies(task, bench, bench, items, prompts, judge, "replies")
    others, kl = replies, 0.0
    if not same:
        reference = Bench(
            task.reference,
            fingerprint(task.reference),
            load_model(task.reference, "language", bench.dtype, bench.device),
            load_tokenizer(task.reference),
            bench.device,
            bench.dtype,
            seed=bench.seed,
            watch=bench.watch,
        )
        reference_prompts = [encode_prompt(reference.tokenizer, item.messages) for item in items]
        others = _replies(task, reference, bench, items, reference_prompts, judge, "replies of the reference")
        if reference_prompts != prompts:
            raise UserError(f"{bench.checkpoint} and {task.reference} tokenise prompts differently, so their KL divergence means nothing.")
        kl = _divergence(reference, prompts, replies)

    no_room = f"the prompt leaves no room for a reply in the context of {bench.context} tokens"
    samples = [Sample(item, "reward", prompt=item.question, reason=no_room) for i, item in enumerate(task.items) if i not in set(asked)]
    for item, own, other in zip(items, replies, others, strict=True):
        extra = {
            "replies": [reply.text for reply in own],
            "rewards": [reply.reward for reply in own],
            "reference_replies": [reply.text for reply in other],
            "reference_rewards": [reply.reward for reply in other],
        }
        samples.append(Sample(item, "reward", prompt=item.question, extra=extra))
    facts = {"reward_model": fingerprint(task.reward_model), "reference": fingerprint(task.reference), "samples": task.samples}
    return Measured(_score(replies, others, len(task.items), kl), samples, facts)


def _replies(
    task: RewardTask,
    speaker: Bench,
    bench: Bench,
    items: Sequence[PromptRow],
    prompts: Sequence[Sequence[int]],
    judge: RewardModel,
    what: str,
) -> list[list[Reply]]:
    """*task.samples* replies to each prompt, with rewards; the tokens are counted on *bench*."""
    completions = generate(
        speaker.model,
        prompts,
        [Sampling(task.max_tokens, temperature=1.0, seed=bench.seed + task.samples * i) for i in range(len(prompts))],
        stop_ids(speaker.tokenizer, speaker.model),
        n=task.samples,
        on_progress=bench.watch(f"{task.name} · {what}", len(prompts) * task.samples),
    )
    bench.tokens_computed += sum(len(prompt) + sum(len(one.ids) for one in row) for prompt, row in zip(prompts, completions, strict=True))
    texts = [[decode(speaker.tokenizer, one.ids) for one in row] for row in completions]
    said: list[list[Message]] = [
        [*item.messages, {"role": "assistant", "content": text}] for item, row in zip(items, texts, strict=True) for text in row
    ]
    rewards = iter(judge.score(said))
    return [[Reply(text, one, next(rewards)) for text, one in zip(*pair, strict=True)] for pair in zip(texts, completions, strict=True)]


def _divergence(reference: Bench, prompts: Sequence[Sequence[int]], replies: Sequence[Sequence[Reply]]) -> float:
    """Mean of Σ log p − log p_reference over the replies (0 where there is none)."""
    flat = [(prompt, reply.completion) for prompt, row in zip(prompts, replies, strict=True) for reply in row]
    others = continuation_logprobs(reference.model, [prompt for prompt, _ in flat], [completion.ids for _, completion in flat])
    gaps = [sum(completion.logprobs) - float(other.double().sum()) for (_, completion), other in zip(flat, others, strict=True)]
    return statistics.fmean(gaps) if gaps else 0.0


def _score(replies: Sequence[Sequence[Reply]], others: Sequence[Sequence[Reply]], asked: int, kl: float) -> MethodScore:
    if not replies:
        return MethodScore(metric="reward", value=None, n=asked, unscored=asked)
    means = [statistics.fmean(reply.reward for reply in row) for row in replies]
    other_means = [statistics.fmean(reply.reward for reply in row) for row in others]
    other_rewards = [reply.reward for row in others for reply in row]
    sd = statistics.stdev(other_rewards) if len(other_rewards) > 1 else 0.0
    difference = statistics.fmean(means) - statistics.fmean(other_means)
    wins = [0.5 if own == other else float(own > other) for own, other in zip(means, other_means, strict=True)]
    completions = [reply.completion for row in replies for reply in row]
    return MethodScore(
        metric="reward",
        value=statistics.fmean(means),
        n=asked,
        unscored=asked - len(replies),
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
