"""Reward models: scores, values of tokens, the scale of a reward."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast

from modelkit.chat import Message, encode_chat
from modelkit.reward import RewardModel, RewardReference, grouped_last_token_values, last_token_values, token_values
from modelkit.scoring.batches import right_pad
from tests.modelkit.architectures import SHAREABLE, tiny


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


@pytest.mark.parametrize("name", [name for name in SHAREABLE if name not in ("llama-mha", "llama-mqa")])
def test_answers_that_share_their_prompt_get_the_values_and_gradients_of_answers_alone(name: str) -> None:
    config = tiny(name).config
    config.num_labels, config.pad_token_id = 1, 1
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(config).eval()
    rng = random.Random(0)

    def words(count: int) -> list[int]:
        return [rng.randrange(90) for _ in range(count)]

    prompts = [words(9), words(3), words(14)]
    groups = [
        [prompts[0] + words(4), prompts[0] + words(7)],
        [prompts[1] + [5, 6] + words(3), prompts[1] + [5, 6] + words(1), prompts[1] + words(6), prompts[1] + [5, 6]],
        [prompts[2] + words(2)],
        [words(4), words(5)],
    ]
    groups[3].append(groups[3][0])
    found = []
    for values in (grouped_last_token_values(model, groups), last_token_values(model, [ids for group in groups for ids in group])):
        model.zero_grad()
        (values * torch.linspace(-1, 2, len(values))).sum().backward()
        found.append((values.detach(), [parameter.grad for parameter in model.parameters() if parameter.grad is not None]))
    (together, gradients), (alone, expected) = found
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)
    for one, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)
