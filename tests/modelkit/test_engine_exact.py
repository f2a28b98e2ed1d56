"""Whatever shares a batch, and whenever it came: every sequence is what the model writes alone."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    PreTrainedModel,
    Qwen2Config,
)

from modelkit import linear
from modelkit.errors import UserError
from modelkit.generation.batch import Batch
from modelkit.generation.prefixes import PrefixStore, shared_length
from modelkit.generation.sampling import Sampling
from modelkit.generation.sequences import Token
from modelkit.generation.slots import Lines

VOCABULARY, LONGEST = 97, 24
TIE = 1e-4
"""Where the two best tokens are closer than this, rounding decides."""

_SPECIAL: dict[str, Any] = {"vocab_size": VOCABULARY, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
_USUAL = _SPECIAL | {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
}
ARCHITECTURES = {
    "llama, multi-head": LlamaConfig(**_USUAL, intermediate_size=64),
    "llama, grouped heads": LlamaConfig(**_USUAL, intermediate_size=64, num_key_value_heads=2),
    "llama, one key head": LlamaConfig(**_USUAL, intermediate_size=64, num_key_value_heads=1),
    "qwen2": Qwen2Config(**_USUAL, intermediate_size=64, num_key_value_heads=2),
    "mistral, sliding window": MistralConfig(**_USUAL, intermediate_size=64, num_key_value_heads=2, sliding_window=128),
    "gpt-2, learned positions": GPT2Config(**_SPECIAL, n_embd=32, n_layer=2, n_head=4, n_positions=256, initializer_range=0.2),
    "opt, learned positions": OPTConfig(
        **_SPECIAL,
        hidden_size=32,
        ffn_dim=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=256,
        init_std=0.2,
        word_embed_proj_dim=32,
    ),
    "bloom, ALiBi": BloomConfig(**_SPECIAL, hidden_size=32, n_layer=2, n_head=4, initializer_range=0.2),
    "gpt-neox": GPTNeoXConfig(**_USUAL, intermediate_size=64),
}


def made(name: str) -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(ARCHITECTURES[name]).eval()


def some_prompts(rng: random.Random, count: int) -> list[list[int]]:
    """Prompts of 1 to 90 tokens, many of which begin alike."""
    common = [rng.randrange(4, VOCABULARY) for _ in range(40)]
    return [
        [1, *(common[: rng.choice([0, 0, 25, 40])]), *(rng.randrange(4, VOCABULARY) for _ in range(rng.randrange(50)))]
        for _ in range(count)
    ]


def alone(model: Any, prompt: list[int]) -> list[int]:
    mask = torch.ones(1, len(prompt), dtype=torch.long)
    return model.generate(torch.tensor([prompt]), attention_mask=mask, max_new_tokens=LONGEST, do_sample=False)[0].tolist()[len(prompt) :]


def tied(model: Any, ids: list[int]) -> bool:
    with torch.inference_mode():
        best = model(torch.tensor([ids])).logits[0, -1].topk(2).values
    return float(best[0] - best[1]) < TIE


def drain(batch: Batch) -> list[Token]:
    found: list[Token] = []
    while batch.busy:
        found += batch.step()
    return found


@pytest.mark.parametrize(
    ("name", "attention", "packed"),
    [*((name, "sdpa", False) for name in ARCHITECTURES), ("qwen2", "eager", False), ("qwen2", "sdpa", True)],
)
def test_greedy_equals_transformers_generate_over_random_arrivals(
    name: str, attention: str, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, rng = made(name), random.Random(len(name))
    model.set_attn_implementation(attention)
    prompts = some_prompts(rng, 12)
    served = copy.deepcopy(model)
    if packed:
        monkeypatch.setattr(linear, "_LARGE", 0)
        linear.pack(served)
    batch = Batch(served, max_rows=6, chunk=24, burst=40, prefixes=PrefixStore(1 << 20))
    todo = list(range(12))
    keys: dict[int, int] = {}
    got: dict[tuple[int, int], list[int]] = {}
    dropped: set[int] = set()
    while todo or batch.busy:
        while todo and rng.random() < 0.4:
            i = todo.pop(0)
            keys[batch.add(prompts[i], Sampling(max_tokens=LONGEST, temperature=0), stop=[2], n=rng.choice([1, 1, 3]))] = i
        if keys and rng.random() < 0.03:
            dropped.add(key := rng.choice(list(keys)))
            batch.drop(key)
        for token in batch.step():
            got.setdefault((token.key, token.sample), []).append(token.id)
    assert batch.tally.reused > 0
    assert len(got) >= 12 - len(dropped)
    for (key, _), ids in got.items():
        prompt = prompts[keys[key]]
        expected = alone(model, prompt)
        same = shared_length(ids, expected)
        assert same == len(expected) or (key in dropped and same == len(ids)) or tied(model, [*prompt, *expected[:same]])


@pytest.mark.parametrize("name", ["llama, grouped heads", "bloom, ALiBi"])
def test_the_same_seed_gives_the_same_text_in_any_company(name: str) -> None:
    model, rng = made(name), random.Random(5)
    prompts = some_prompts(rng, 8)
    settings = [Sampling(max_tokens=20, temperature=0.5 + i / 8, top_k=[0, 9][i % 2], top_p=[1, 0.8][i // 4], seed=i) for i in range(8)]
    texts: list[list[Token]] = []
    for prompt, sampling in zip(prompts, settings, strict=True):
        batch = Batch(model)
        batch.add(prompt, sampling, stop=[2])
        texts.append(drain(batch))
    crowd = Batch(model, chunk=16, burst=30)
    keys: dict[int, int] = {}
    found: dict[int, list[Token]] = {}
    order = rng.sample(range(8), 8)
    while order or crowd.busy:
        if order:
            i = order.pop()
            keys[crowd.add(prompts[i], settings[i], stop=[2])] = i
        for token in crowd.step():
            found.setdefault(keys[token.key], []).append(token)
    for i in range(8):
        assert [token.id for token in found[i]] == [token.id for token in texts[i]]
        assert [token.logprob for token in found[i]] == pytest.approx([token.logprob for token in texts[i]], abs=1e-4)


def test_samples_of_one_prompt_read_it_once() -> None:
    model = made("llama, grouped heads")
    batch, prompt = Batch(model), list(range(4, 64))
    batch.add(prompt, Sampling(max_tokens=5, seed=1), stop=[], n=8)
    found = drain(batch)
    assert batch.tally.computed == 59 + 8 * 5
    for sample in range(8):
        other = Batch(model)
        other.add(prompt, Sampling(max_tokens=5, seed=1 + sample), stop=[])
        assert [token.id for token in found if token.sample == sample] == [token.id for token in drain(other)]


def test_the_second_turn_of_a_chat_reads_only_its_new_tokens() -> None:
    batch = Batch(made("llama, grouped heads"), prefixes=PrefixStore(1 << 20))
    first = list(range(4, 54))
    batch.add(first, Sampling(max_tokens=10, temperature=0), stop=[])
    reply = [token.id for token in drain(batch)]
    before = batch.tally.computed
    batch.add([*first, *reply, 7, 8, 9], Sampling(max_tokens=1, temperature=0), stop=[])
    drain(batch)
    assert batch.tally.computed - before == 1 + 3  # the reply's last token had not been read yet
    assert batch.tally.reused == len(first) + 9


def test_prompts_that_begin_alike_and_come_together_read_the_beginning_once() -> None:
    batch, common = Batch(made("gpt-2, learned positions")), list(range(4, 84))
    for i in range(6):
        batch.add([*common, 4 + i, 5 + i], Sampling(max_tokens=2, temperature=0), stop=[])
    drain(batch)
    assert batch.tally.computed == 81 + 6 * 2 + 5 * 1
    assert batch.tally.reused == 5 * 80


def test_a_long_prompt_holds_nobody_up() -> None:
    batch = Batch(made("llama, multi-head"), chunk=16, burst=32)
    batch.add([5, 6, 7], Sampling(max_tokens=30, temperature=0), stop=[])
    batch.step()
    long = batch.add(list(range(4, 90)) * 2, Sampling(max_tokens=2, temperature=0), stop=[])
    short = batch.add([8, 9, 10, 11], Sampling(max_tokens=2, temperature=0), stop=[])
    before = batch.tally.computed
    steps = [batch.step() for _ in range(3)]
    assert all(len(tokens) >= 1 for tokens in steps)
    assert any(token.key == short for tokens in steps[:2] for token in tokens)
    assert batch.tally.computed - before <= 3 * (16 + 3)
    assert any(token.key == long for token in drain(batch))


def test_finished_rows_leave_the_forward_pass() -> None:
    model = made("llama, multi-head")
    widths: list[int] = []
    model.register_forward_pre_hook(lambda _, args, named: widths.append(len(named["input_ids"])), with_kwargs=True)
    batch = Batch(model)
    for i in range(4):
        batch.add([5 + i], Sampling(max_tokens=1 + i, temperature=0), stop=[])
    drain(batch)
    assert widths == [4, 3, 2, 1]


def test_the_cache_waits_for_room_rather_than_grow_beyond_its_bytes() -> None:
    model = made("llama, multi-head")
    token_bytes = 2 * 2 * 32 * 4
    batch = Batch(model, cache_bytes=4 * 68 * token_bytes)
    for i in range(6):
        batch.add([5 + i, 6, 7], Sampling(max_tokens=60, temperature=0), stop=[])
    live = []
    while batch.busy:
        batch.step()
        live.append(batch.live)
    assert max(live) == 3
    assert batch.tally.drawn == 360
    batch.add([5] * 100, Sampling(max_tokens=150, temperature=0), stop=[])
    assert len(drain(batch)) == 150


def test_a_prompt_beyond_the_context_or_too_many_samples_are_refused() -> None:
    batch = Batch(made("mistral, sliding window"), max_rows=4)
    assert batch.room() == 128
    for prompt, n in (([], 1), ([5] * 128, 1), ([5], 5), ([5], 0)):
        with pytest.raises(UserError):
            batch.add(prompt, Sampling(), stop=[], n=n)
    assert not batch.busy


def test_top_tokens_are_the_models_own() -> None:
    model = made("llama, multi-head")
    batch = Batch(model)
    batch.add([5, 6], Sampling(max_tokens=3, temperature=0, repetition_penalty=1.3), stop=[], top=3)
    batch.add([7, 8, 9], Sampling(max_tokens=3, seed=1), stop=[])
    ids = [5, 6]
    for token in drain(batch):
        if token.key == 1:
            with torch.inference_mode():
                exact = model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
            assert [one for one, _ in token.top] == exact.topk(3).indices.tolist()
            assert [chance for _, chance in token.top] == pytest.approx(exact.topk(3).values.tolist(), abs=1e-4)
            assert token.logprob == pytest.approx(float(exact[token.id]), abs=1e-4)
            ids.append(token.id)
        else:
            assert token.top == ()


def test_no_more_top_tokens_are_told_than_the_vocabulary_has() -> None:
    batch = Batch(AutoModelForCausalLM.from_config(LlamaConfig(**_USUAL | {"vocab_size": 7}, intermediate_size=64)).eval())
    batch.add([5, 6], Sampling(max_tokens=1), stop=[], top=20)
    assert sorted(id for id, _ in drain(batch)[0].top) == list(range(7))


def test_the_prefix_store_keeps_to_its_bytes_and_drops_what_is_contained_in_another() -> None:
    copied: list[int] = []
    store = PrefixStore(8 * 10)

    def put(ids: list[int]) -> None:
        def copy() -> Lines:
            copied.append(len(ids))
            return [(torch.zeros(1, len(ids), 1), torch.zeros(1, len(ids), 1))]

        store.put(ids, 8 * len(ids), copy)

    put([1, 2])
    put([1, 2, 3])
    put([1, 2])
    assert (len(store), store.bytes) == (1, 24)
    put([4, 5, 6])
    assert store.find([1, 2, 3, 4])[1] == 3
    put([7, 8, 9, 7])
    assert store.find([4, 5])[1] == 2
    put([8, 8, 8])
    assert [store.find(ids)[1] for ids in ([1, 2, 3], [4, 5, 6], [7, 8, 9], [8, 8, 8])] == [0, 3, 3, 3]
    put(list(range(20)))
    assert (len(store), store.bytes) == (3, 80)
    assert copied == [2, 3, 3, 4, 3]  # what is contained in another or too large is not copied first
