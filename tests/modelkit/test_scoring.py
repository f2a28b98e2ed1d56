"""Fast scoring against one forward pass at a time with full logits."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    AutoModelForSequenceClassification,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from modelkit.chat import Message, encode_chat
from modelkit.reward import RewardModel, RewardReference, token_values
from modelkit.scoring.batches import by_length, right_pad
from modelkit.scoring.logprobs import continuation_logprobs, next_token_logprobs, plain_head


def sequences(count: int, vocabulary: int) -> list[list[int]]:
    rng = random.Random(0)
    return [[rng.randrange(vocabulary) for _ in range(rng.randrange(2, 40))] for _ in range(count)]


def slow_logprobs(model: PreTrainedModel, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.tensor([ids]), use_cache=False).logits[0].float().log_softmax(-1)


def test_next_token_logprobs_equal_one_prompt_at_a_time(model: PreTrainedModel) -> None:
    prompts = sequences(9, model.config.vocab_size)
    fast = next_token_logprobs(model, prompts, [4, 5, 9], token_budget=80)
    slow = torch.stack([slow_logprobs(model, prompt)[-1, [4, 5, 9]] for prompt in prompts])
    torch.testing.assert_close(fast, slow, atol=2e-5, rtol=0)


@pytest.mark.parametrize("family", ["llama", "gpt2 with its own forward"])
def test_continuation_logprobs_equal_one_pair_at_a_time(model: PreTrainedModel, family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if family != "llama":
        torch.manual_seed(0)
        model = GPT2LMHeadModel(GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=2, n_positions=128)).eval()
        monkeypatch.setattr("modelkit.scoring.logprobs.plain_head", lambda model: False)
    contexts, continuations = sequences(7, 300), sequences(8, 300)[1:]
    fast = continuation_logprobs(model, contexts, continuations, token_budget=100)
    for context, continuation, found in zip(contexts, continuations, fast, strict=True):
        chances = slow_logprobs(model, context + continuation)
        slow = torch.stack([chances[len(context) - 1 + i, token] for i, token in enumerate(continuation)])
        torch.testing.assert_close(found, slow, atol=3e-5, rtol=0)


def test_the_short_way_to_the_logits_is_taken_only_where_it_is_known_to_be_right(model: PreTrainedModel) -> None:
    assert plain_head(model)
    small: dict[str, Any] = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    capped = Gemma2ForCausalLM(Gemma2Config(**small, num_key_value_heads=1, head_dim=8)).eval()
    assert not plain_head(capped)
    [found] = continuation_logprobs(capped, [[3, 4]], [[5, 6]])
    chances = slow_logprobs(capped, [3, 4, 5, 6])
    torch.testing.assert_close(found, torch.stack([chances[1, 5], chances[2, 6]]), atol=1e-5, rtol=0)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(1, 200))
def test_batches_hold_every_index_once_within_the_budget(lengths: list[int], budget: int) -> None:
    batches = list(by_length(lengths, budget))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert all(len(batch) == 1 or max(lengths[i] for i in batch) * len(batch) <= budget for batch in batches)


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
