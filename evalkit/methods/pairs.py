"""Preference pairs: how often does a reward model score the chosen reply above the rejected one?"""

from __future__ import annotations

import math

from evalkit.aggregate import share_right
from evalkit.bench import Bench
from evalkit.types import Measured, PairRow, PairsTask, Sample
from modelkit.chat import encode_chat
from modelkit.reward import RewardModel


def measure(task: PairsTask, bench: Bench) -> Measured:
    """Share of pairs ranked right; equal rewards count as wrong. Beside it, what choosing the longer reply would reach."""
    judge = RewardModel(bench.model, bench.tokenizer)
    sequences = [[_encode(item, reply, bench) for reply in (item.chosen, item.rejected)] for item in task.items]
    fits = [bench.context is None or max(map(len, pair)) <= bench.context for pair in sequences]
    # each different sequence is scored once: a batch may round equal rows differently, and equal replies must tie
    flat = list(dict.fromkeys(tuple(ids) for pair, fit in zip(sequences, fits, strict=True) if fit for ids in pair))
    moved = bench.watch(f"{task.name} · pairs", len(flat))
    rewards = dict(zip(flat, judge.score_ids(flat), strict=True))
    moved(len(flat))
    bench.tokens_computed += sum(map(len, flat))

    samples = []
    for item, pair, fit in zip(task.items, sequences, fits, strict=True):
        sample = Sample(item, "pairs", gold="chosen", prompt=item.question)
        samples.append(sample)
        if not fit:
            sample.reason = f"a reply is longer than the context of {bench.context} tokens"
            continue
        chosen, rejected = (rewards[tuple(ids)] for ids in pair)
        if math.isnan(chosen) or math.isnan(rejected):
            sample.reason = "the model gave no number (NaN): use --dtype fp32"
            continue
        sample.prediction = "chosen" if chosen > rejected else "rejected" if rejected > chosen else "tie"
        sample.correct = chosen > rejected
        sample.extra = {"rewards": {"chosen": chosen, "rejected": rejected}}
    score = share_right(
        samples,
        "accuracy",
        "micro",
        length_baseline=sum(_longer(item.chosen, item.rejected) for item in task.items) / len(task.items),
        ties=sum(sample.prediction == "tie" for sample in samples),
    )
    return Measured(score, samples)


def _encode(item: PairRow, reply: str, bench: Bench) -> list[int]:
    return encode_chat(bench.tokenizer, [*item.messages, {"role": "assistant", "content": reply}]).ids


def _longer(chosen: str, rejected: str) -> float:
    """1 when the chosen reply has more characters, ½ when both have as many."""
    return 0.5 if len(chosen) == len(rejected) else float(len(chosen) > len(rejected))
