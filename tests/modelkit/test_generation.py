"""The batched loop against transformers' own generate, alone and in any company."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from modelkit.errors import UserError
from modelkit.generation.loop import generate, stream
from modelkit.generation.sampling import Sampling, choose
from modelkit.generation.stream import TextStream
from modelkit.scoring.logprobs import continuation_logprobs

GREEDY = Sampling(max_tokens=20, temperature=0)


def prompts(model: PreTrainedModel, count: int) -> list[list[int]]:
    rng = random.Random(3)
    return [[1, *(rng.randrange(4, model.config.vocab_size) for _ in range(rng.randrange(1, 30)))] for _ in range(count)]


def test_greedy_equals_transformers_generate_token_for_token(model: PreTrainedModel) -> None:
    for prompt, batched in zip(prompts(model, 6), generate(model, prompts(model, 6), GREEDY, stop=[2]), strict=True):
        own: Any = model
        expected = own.generate(torch.tensor([prompt]), max_new_tokens=20, do_sample=False)[0].tolist()[len(prompt) :]
        assert batched[0].ids == expected


def test_a_sample_does_not_depend_on_its_company(model: PreTrainedModel) -> None:
    many = prompts(model, 5)
    sampling = [Sampling(max_tokens=15, seed=i) for i in range(5)]
    together = generate(model, many, sampling, stop=[2], n=2)
    for i in range(5):
        alone = generate(model, [many[i]], [sampling[i]], stop=[2], n=2)[0]
        assert [sample.ids for sample in alone] == [sample.ids for sample in together[i]]


def test_reported_logprobs_are_the_models_own(model: PreTrainedModel) -> None:
    [[sample]] = generate(model, prompts(model, 1), Sampling(max_tokens=12, seed=5), stop=[2])
    [exact] = continuation_logprobs(model, prompts(model, 1), [sample.ids])
    torch.testing.assert_close(torch.tensor(sample.logprobs), exact, atol=1e-4, rtol=0)


def test_rows_end_at_a_stop_token_or_at_their_own_length(model: PreTrainedModel) -> None:
    first = generate(model, prompts(model, 1), GREEDY, stop=[])[0][0]
    assert first.finish == "length"
    assert len(first.ids) == 20
    stopped = generate(model, prompts(model, 1), GREEDY, stop=[first.ids[4]])[0][0]
    assert stopped.finish == "stop"
    assert stopped.ids == first.ids[: first.ids.index(first.ids[4]) + 1]


def test_a_context_that_runs_full_ends_the_reply(model: PreTrainedModel) -> None:
    [[sample]] = generate(model, [[5] * 120], Sampling(max_tokens=50, temperature=0), stop=[])
    assert len(sample.ids) == 8
    assert sample.finish == "length"
    with pytest.raises(UserError, match="leave room"):
        generate(model, [[5] * 128], GREEDY, stop=[])


def test_cancelling_ends_the_work_within_a_step(model: PreTrainedModel) -> None:
    seen: list[int] = []
    seen.extend(token.id for token in stream(model, prompts(model, 1), [GREEDY], stop=[], cancelled=lambda: len(seen) >= 3))
    assert len(seen) == 3
    assert generate(model, prompts(model, 1), GREEDY, stop=[], cancelled=lambda: True)[0][0].finish == "cancelled"


@given(st.floats(0, 1, exclude_max=True), st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_choose_inverts_the_cumulative_distribution(uniform: float, seed: int) -> None:
    logits = torch.randn(1, 9, generator=torch.Generator().manual_seed(seed))
    token, logprob = choose(logits, torch.tensor([uniform], dtype=torch.float64), Sampling(temperature=0.7))
    probabilities = (logits[0].double() / 0.7).softmax(-1)
    below = float(probabilities[: int(token)].sum())
    assert below - 1e-6 <= uniform <= below + float(probabilities[int(token)]) + 1e-6
    assert float(logprob) == pytest.approx(float(probabilities[int(token)].log()), abs=1e-5)


def test_top_k_and_top_p_restrict_what_is_chosen() -> None:
    logits = torch.tensor([[3.0, 2.0, 1.0, 0.0]]).repeat(200, 1)
    uniform = torch.linspace(0, 0.9999, 200)
    assert set(choose(logits, uniform, Sampling(top_k=2))[0].tolist()) == {0, 1}
    assert set(choose(logits, uniform, Sampling(top_p=0.6))[0].tolist()) == {0}
    assert set(choose(logits, uniform, Sampling())[0].tolist()) == {0, 1, 2, 3}


def test_impossible_settings_are_refused() -> None:
    for wrong in ({"max_tokens": 0}, {"temperature": -1.0}, {"temperature": float("nan")}, {"top_p": 0.0}, {"top_k": -1}):
        with pytest.raises(UserError):
            Sampling(**wrong)


def test_a_stream_never_breaks_a_character(tokenizer: PreTrainedTokenizerFast) -> None:
    text = "法国 ok 😀 鑫 end"  # 鑫 is unknown to the tokenizer and comes as three bytes
    stream_ = TextStream(tokenizer)
    pieces = [stream_.put(token) for token in tokenizer(text, add_special_tokens=False)["input_ids"]]
    assert "".join(pieces) == text
    assert not any("�" in piece for piece in pieces)
