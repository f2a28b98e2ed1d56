"""Preference pairs: how often does a reward model score the chosen reply above the rejected one?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from evalkit.aggregate import share_right
from evalkit.bench import Bench
from evalkit.methods import Record
from evalkit.types import PairRow, PairsTask, Sample
from modelkit.chat import encode_chat
from modelkit.records import MethodScore
from modelkit.reward import RewardModel

_SLICE = 256


def measure(task: PairsTask, items: Sequence[PairRow], bench: Bench, record: Record) -> dict[str, Any]:
    """Rank pairs by reward; equal rewards count as wrong.

    Each different sequence of a slice of pairs is scored once: a batch may round equal rows differently, and equal replies must tie.
    """
    judge = RewardModel(bench.model.model, bench.tokenizer)
    context = bench.model.context
    too_long = f"a reply is longer than the context of {context} tokens"
    for start in range(0, len(items), _SLICE):
        part = items[start : start + _SLICE]
        if not record.wanted(part):
            continue
        sequences = [[_encode(item, reply, bench) for reply in (item.chosen, item.rejected)] for item in part]
        fits = [context is None or max(map(len, pair)) <= context for pair in sequences]
        flat = list(dict.fromkeys(ids for pair, fit in zip(sequences, fits, strict=True) if fit for ids in pair))
        rewards = dict(zip(flat, judge.score_ids(flat), strict=True))
        bench.model.tokens_computed += sum(map(len, flat))
        record(
            [
                _rank(item, *(rewards[ids] for ids in pair)) if fit else _unscored(item, too_long)
                for item, pair, fit in zip(part, sequences, fits, strict=True)
            ]
        )
    return {}


def score(task: PairsTask, samples: Sequence[Sample]) -> MethodScore:
    """Share of pairs ranked right; beside it, what choosing the longer reply would reach, and how many rewards were equal."""
    return share_right(
        samples,
        "accuracy",
        "micro",
        length_baseline=sum(_longer(item.chosen, item.rejected) for item in task.items) / len(task.items),
        ties=sum(sample.prediction == "tie" for sample in samples),
    )


def _rank(item: PairRow, chosen: float, rejected: float) -> Sample:
    if math.isnan(chosen) or math.isnan(rejected):
        return _unscored(item, "the model gave no number (NaN): use --dtype fp32")
    return Sample(
        item,
        "pairs",
        gold="chosen",
        prediction="chosen" if chosen > rejected else "rejected" if rejected > chosen else "tie",
        correct=chosen > rejected,
        prompt=item.question,
        extra={"rewards": {"chosen": chosen, "rejected": rejected}},
    )


def _unscored(item: PairRow, reason: str) -> Sample:
    return Sample(item, "pairs", gold="chosen", prompt=item.question, reason=reason)


def _encode(item: PairRow, reply: str, bench: Bench) -> tuple[int, ...]:
    return tuple(encode_chat(bench.tokenizer, [*item.messages, {"role": "assistant", "content": reply}]).ids)


def _longer(chosen: str, rejected: str) -> float:
    """1 when the chosen reply has more characters, ½ when both have as many."""
    return 0.5 if len(chosen) == len(rejected) else float(len(chosen) > len(rejected))
