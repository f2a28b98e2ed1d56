"""Reward models: scores, values of tokens, the scale of a reward."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast

from modelkit.chat import Message, encode_chat
from modelkit.reward import RewardModel, RewardReference, token_values
from modelkit.scoring.batches import right_pad


def sequences(count: int, vocabulary: int) -> list[list[int]]:
    rng = random.Random(0)
    return [[rng.randrange(vocabulary) for _ in range(rng.randrange(2, 40))] for _ in range(count)]


def test_rewards_equal_the_classification_head_of_transformers(reward_checkpoint: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    rewards = RewardModel.load(reward_checkpoint)
    chats: list[list[Message]] = [
        [{"role": "user", "content": "法国的首都是哪里？"}, {"role": "assistant", "content": answer}]
        for answer in ("巴黎。", "Paris", "is")
    ]
    plain = AutoModelForSequenceClassification.from_pretrained(reward_checkpoint).eval()
    slow = [plain(torch.tensor([encode_chat(tokenizer, chat).ids])).logits.item() for chat in chats]
    assert rewards.score(chats) == pytest.approx(slow, abs=1e-5)
    best, found = rewards.best_of(chats[0][:1], ["巴黎。", "Paris", "is"])
    assert found == pytest.approx(slow, abs=1e-5)
    assert best == max(range(3), key=slow.__getitem__)


def test_padding_changes_no_value(reward_checkpoint: Path) -> None:
    model = RewardModel.load(reward_checkpoint).model
    rows = sequences(4, 300)
    with torch.no_grad():
        together = token_values(model, right_pad(rows))
        for row, values in zip(rows, together, strict=True):
            torch.testing.assert_close(values[: len(row)], token_values(model, torch.tensor([row]))[0], atol=1e-5, rtol=0)


def test_percentiles_count_ties_half() -> None:
    reference = RewardReference.of([1.0, 2.0, 2.0, 3.0])
    assert [reference.percentile(reward) for reward in (0.0, 1.0, 2.0, 3.5)] == [0.0, 12.5, 50.0, 100.0]
    assert reference.mean == 2.0
    assert reference.sd == pytest.approx((2 / 3) ** 0.5)
