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
from modelkit.generation.loop import generate
from modelkit.generation.sampling import Chooser, Sampling, choose, uniform
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
    asked: list[int] = []

    def cancelled() -> bool:
        asked.append(0)
        return len(asked) > 3

    [[sample]] = generate(model, prompts(model, 1), GREEDY, stop=[], cancelled=cancelled)
    assert (len(sample.ids), sample.finish) == (3, "cancelled")


def test_few_rows_take_in_many_prompts_one_after_the_other(model: PreTrainedModel) -> None:
    many = prompts(model, 9)
    finished: list[int] = []
    narrow = generate(model, many, GREEDY, stop=[2], n=2, max_rows=4, on_progress=finished.append)
    wide = generate(model, many, GREEDY, stop=[2], n=2)
    assert [[one.ids for one in row] for row in narrow] == [[one.ids for one in row] for row in wide]
    assert finished[-1] == 18


@given(st.floats(0, 1, exclude_max=True), st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_choose_inverts_the_cumulative_distribution(number: float, seed: int) -> None:
    logits = torch.randn(1, 9, generator=torch.Generator().manual_seed(seed))
    token, logprob = choose(logits, [number], Sampling(temperature=0.7))
    probabilities = (logits[0].double() / 0.7).softmax(-1)
    below = float(probabilities[: int(token)].sum())
    assert below - 1e-6 <= number <= below + float(probabilities[int(token)]) + 1e-6
    assert float(logprob) == pytest.approx(float(logits[0].double().log_softmax(-1)[int(token)]), abs=1e-5)


def test_top_k_top_p_and_min_p_restrict_what_is_chosen() -> None:
    logits = torch.tensor([[3.0, 2.0, 1.0, 0.0]]).repeat(200, 1)
    numbers = torch.linspace(0, 0.9999, 200).tolist()
    assert set(choose(logits, numbers, Sampling(top_k=2))[0].tolist()) == {0, 1}
    assert set(choose(logits, numbers, Sampling(top_p=0.6))[0].tolist()) == {0}
    assert set(choose(logits, numbers, Sampling(min_p=0.1))[0].tolist()) == {0, 1, 2}
    assert set(choose(logits, numbers, Sampling())[0].tolist()) == {0, 1, 2, 3}


def kept_by_transformers(logits: torch.Tensor, sampling: Sampling) -> list[int]:
    """Which tokens transformers' own processors, one after the other, leave possible."""
    from transformers.generation import logits_process as own

    ids: Any = torch.zeros(1, 0, dtype=torch.long)
    scores: Any = own.TemperatureLogitsWarper(sampling.temperature)(ids, logits)
    if sampling.top_k:
        scores = own.TopKLogitsWarper(sampling.top_k)(ids, scores)
    if sampling.top_p < 1:
        scores = own.TopPLogitsWarper(sampling.top_p)(ids, scores)
    if sampling.min_p:
        scores = own.MinPLogitsWarper(sampling.min_p)(ids, scores)
    return torch.isfinite(scores[0]).nonzero()[:, 0].tolist()


@pytest.mark.parametrize("vocabulary", [50, 3000])
def test_filters_keep_what_transformers_keeps_whatever_the_other_rows_want(vocabulary: int) -> None:
    rows = [
        Sampling(temperature=0.8, top_k=7),
        Sampling(top_p=0.5),
        Sampling(temperature=3.0, top_p=0.97),
        Sampling(temperature=1.3, top_k=20, top_p=0.8, min_p=0.05),
        Sampling(min_p=0.2),
        Sampling(top_k=10**6),
    ]
    logits = torch.randn(len(rows), vocabulary, generator=torch.Generator().manual_seed(1)) * 2
    reached: list[set[int]] = [set() for _ in rows]
    chooser = Chooser(rows)
    for i in range(400):
        for row, token in enumerate(chooser.choose(logits, [(i + 0.5) / 400] * len(rows))[0].tolist()):
            reached[row].add(token)
    for row, sampling in enumerate(rows):
        kept = set(kept_by_transformers(logits[row : row + 1], sampling))
        assert reached[row] <= kept
        likely = (logits[row] / sampling.temperature).softmax(-1)
        share = float(likely[list(kept)].sum())
        assert all(token in reached[row] for token in kept if float(likely[token]) / share > 1 / 400)


def test_greedy_and_random_rows_share_a_batch() -> None:
    logits = torch.randn(4, 600, generator=torch.Generator().manual_seed(0))
    rows = [Sampling(temperature=0), Sampling(top_p=0.9), Sampling(temperature=0, repetition_penalty=1.5), Sampling()]
    seen = [None, None, torch.zeros(600, dtype=torch.bool), None]
    numbers = [0.1, 0.7, 0.3, 0.9]
    together = Chooser(rows).choose(logits, numbers, seen)[0].tolist()
    alone = [int(Chooser([rows[i]]).choose(logits[i : i + 1], numbers[i : i + 1], seen[i : i + 1])[0]) for i in range(4)]
    assert together == alone


def test_extreme_settings_of_one_row_are_served_and_leave_the_others_alone() -> None:
    logits = torch.randn(5, 600, generator=torch.Generator().manual_seed(0)) * 50
    rows = [Sampling(top_k=10**30), Sampling(temperature=1e-60), Sampling(top_p=1e-60), Sampling(min_p=1 - 1e-16), Sampling(top_p=0.9)]
    numbers = [0.1, 0.7, 0.99, 0.99, 0.5]
    seen = [None, None, None, None, None]
    together, logprobs = Chooser(rows).choose(logits, numbers, seen)
    likeliest = logits.argmax(-1).tolist()
    unfiltered = choose(logits[:1], [0.1], Sampling())[0].tolist()
    alone = choose(logits[4:], [0.5], rows[4])[0].tolist()
    assert together.tolist() == [*unfiltered, *likeliest[1:4], *alone]
    assert torch.isfinite(logprobs).all()
    sharpest, all_seen = Chooser([Sampling(temperature=1e-4, repetition_penalty=0.01)]), torch.ones(600, dtype=torch.bool)
    assert int(sharpest.choose(logits[:1] * 100, [0.5], [all_seen])[0]) == likeliest[0]


def test_the_repetition_penalty_is_that_of_transformers(model: PreTrainedModel) -> None:
    own: Any = model
    for prompt in prompts(model, 4):
        settings = Sampling(max_tokens=20, temperature=0, repetition_penalty=1.7)
        expected = own.generate(torch.tensor([prompt]), max_new_tokens=20, do_sample=False, repetition_penalty=1.7)[0].tolist()
        assert generate(model, [prompt], settings, stop=[2])[0][0].ids == expected[len(prompt) :]


def test_random_numbers_are_a_function_of_seed_and_counter_and_uniform() -> None:
    assert uniform(7, 3) == uniform(7, 3)
    assert len({uniform(seed, counter) for seed in range(-50, 50) for counter in range(100)}) == 10_000
    draws = torch.tensor([uniform(seed, counter) for seed in range(100) for counter in range(100)], dtype=torch.float64)
    assert float(draws.min()) >= 0
    assert float(draws.max()) < 1
    counts = torch.histc(draws, bins=20, min=0, max=1)
    assert float(((counts - 500) ** 2 / 500).sum()) < 43.8  # chi-square with 19 degrees of freedom, 0.1 %
    pairs = draws.view(100, 100)
    assert abs(float(torch.corrcoef(torch.stack([pairs[:, :-1].flatten(), pairs[:, 1:].flatten()]))[0, 1])) < 0.04
    assert abs(float(torch.corrcoef(torch.stack([pairs[:-1].flatten(), pairs[1:].flatten()]))[0, 1])) < 0.04


def test_impossible_settings_are_refused() -> None:
    for wrong in (
        {"max_tokens": 0},
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"temperature": 1e30},
        {"top_p": 0.0},
        {"top_k": -1},
        {"min_p": 1.0},
        {"repetition_penalty": 0.0},
        {"repetition_penalty": 1e-60},
        {"repetition_penalty": 1e60},
    ):
        with pytest.raises(UserError):
            Sampling(**wrong)


TEXTS = [
    "法国 ok 😀 鑫 end",  # 鑫 is unknown to the tokenizer and comes as three bytes
    "family 👨‍👩‍👧‍👦, flags 🇨🇳🇫🇷🇩🇪, tones 👍🏽👩🏿‍🚀, keycaps 1️⃣#️⃣, hearts ❤️‍🔥, Scotland 🏴󠁧󠁢󠁳󠁣󠁴󠁿.",
    "数字 42，列表 1. 2. 3.",
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_stream_never_breaks_a_character_or_an_emoji(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    stream = TextStream(tokenizer)
    pieces = [stream.put(token) for token in tokenizer(text, add_special_tokens=False)["input_ids"]]
    pieces.append(stream.flush())
    assert "".join(pieces) == stream.text == text
    assert not any("�" in piece for piece in pieces)
    for piece in pieces:
        assert not piece.startswith(("\u200d", "\ufe0f", "\u20e3", "\U0001f3fd", "\U0001f3ff"))
        assert not piece.endswith("\u200d")
    flags = [piece for piece in pieces if "🇫" in piece]
    assert all("🇫🇷" in piece for piece in flags)


def test_an_unfinished_character_at_the_end_is_left_out(tokenizer: PreTrainedTokenizerFast) -> None:
    stream = TextStream(tokenizer)
    for token in tokenizer("ok 鑫", add_special_tokens=False)["input_ids"][:-1]:
        stream.put(token)
    stream.flush()
    assert stream.text == "ok "


@given(st.text("ab .\n", max_size=30), st.lists(st.text("ab .\n", min_size=1, max_size=4), max_size=3))
@settings(max_examples=60, deadline=None)
def test_a_stop_string_ends_the_text_before_it_and_nothing_of_it_is_shown(
    tokenizer: PreTrainedTokenizerFast, text: str, stops: list[str]
) -> None:
    stream = TextStream(tokenizer, stops)
    shown = ""
    for token in tokenizer(text, add_special_tokens=False)["input_ids"]:
        shown += stream.put(token)
        assert not any(stop in shown for stop in stops)
    shown += stream.flush()
    ends = [text.find(stop) for stop in stops if stop in text]
    assert stream.finished == bool(ends)
    if not ends:
        assert shown == text
    else:
        assert text.startswith(shown)
        assert any(text[len(shown) :].startswith(stop) for stop in stops)
