"""Fast scoring against its slow twin: one sequence at a time through the model's own forward pass, with full logits."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from modelkit.errors import UserError
from modelkit.scoring import scorer as scoring
from modelkit.scoring.logits import plain_head
from modelkit.scoring.logprobs import continuation_logprobs
from modelkit.scoring.prefix_tree import Node, build, plan
from modelkit.scoring.scorer import SHARED, Scorer, Want
from modelkit.scoring.strings import string_logprobs
from tests.modelkit.architectures import SHAREABLE, VOCABULARY, tiny

TOLERANCE = 1e-4

tokens = st.integers(0, VOCABULARY - 1)


@cache
def model_of(name: str) -> PreTrainedModel:
    return tiny(name)


@st.composite
def trees(draw: st.DrawFn) -> list[Want]:
    """Sequences with common beginnings at several levels, equal ones and beginnings of one another among them."""
    sequences: list[list[int]] = [[]]
    for _ in range(draw(st.integers(1, 12))):
        stem = draw(st.sampled_from(sequences))
        tail = draw(st.lists(tokens, min_size=0 if stem else 1, max_size=draw(st.sampled_from([3, 12, 30]))))
        sequences.append((stem[: draw(st.integers(0, len(stem)))] or stem) + tail)
    wants = []
    for ids in sequences[1:]:
        positions = draw(st.lists(st.integers(0, len(ids[:60]) - 1), min_size=1, max_size=4))
        wants.append(Want(ids[:60], positions, [draw(tokens) for _ in positions]))
    return wants


@torch.no_grad()
def slow(model: PreTrainedModel, want: Want) -> torch.Tensor:
    logprobs = model(input_ids=torch.tensor([list(want.ids)])).logits[0].float().log_softmax(-1)
    return torch.stack([logprobs[position, token] for position, token in zip(want.positions, want.tokens, strict=True)])


def score(scorer: Scorer, wants: Sequence[Want]) -> list[torch.Tensor]:
    found: dict[int, torch.Tensor] = {}

    def collect(indices: list[int], logprobs: list[torch.Tensor]) -> None:
        assert not set(indices) & set(found)
        found.update(zip(indices, logprobs, strict=True))

    scorer.score(wants, collect)
    return [found[i] for i in range(len(wants))]


def assert_exact(model: PreTrainedModel, wants: Sequence[Want], found: Sequence[torch.Tensor]) -> None:
    for want, logprobs in zip(wants, found, strict=True):
        torch.testing.assert_close(logprobs, slow(model, want), atol=TOLERANCE, rtol=0)


def distinct_prefixes(wants: Sequence[Want]) -> int:
    """Nodes of the uncompressed tree: the fewest tokens that anyone could compute."""
    return len({tuple(want.ids[:end]) for want in wants for end in range(1, len(want.ids) + 1)})


@pytest.mark.parametrize("name", SHAREABLE)
def test_sharing_changes_no_score(name: str) -> None:
    @settings(max_examples=12, deadline=None)
    @given(wants=trees(), budget=st.sampled_from([16, 64, 256]))
    def check(wants: list[Want], budget: int) -> None:
        scorer = Scorer(model_of(name), budget)
        assert_exact(model_of(name), wants, score(scorer, wants))
        assert scorer.sharing == SHARED
        assert scorer.tokens_computed + scorer.tokens_reused == sum(len(want.ids) for want in wants)

    check()


@settings(deadline=None)
@given(wants=trees(), unit=st.integers(1, 80))
def test_every_token_is_planned_once_where_each_beginning_is_worth_keeping(wants: list[Want], unit: int) -> None:
    roots = build([want.ids for want in wants], [want.positions for want in wants])
    planned: list[Node] = []
    for step in plan(roots, unit, worth=0):
        planned += [step.keep] if step.keep else [node for root in step.units for node in root.subtree()]
    assert sum(node.end - node.start for node in planned) == distinct_prefixes(wants)
    reads = sorted((sequence, slot, position) for node in planned for position, sequence, slot in node.reads)
    assert reads == sorted((i, slot, position) for i, want in enumerate(wants) for slot, position in enumerate(want.positions))
    for node in planned:
        assert all(node.start <= position < node.end for position, _, _ in node.reads)


def few_shot(subjects: int = 3, questions: int = 8) -> list[Want]:
    rng = random.Random(0)

    def words(count: int) -> list[int]:
        return [rng.randrange(VOCABULARY) for _ in range(count)]

    header, wants = words(12), []
    for _ in range(subjects):
        shots = header + words(60)
        wants += [Want(ids, [len(ids) - 1] * 2, [3, 4]) for ids in (shots + words(rng.randrange(3, 20)) for _ in range(questions))]
    return wants


def test_few_shot_prompts_compute_their_shots_once() -> None:
    wants = few_shot()
    scorer = Scorer(model_of("llama"), 64)
    assert_exact(model_of("llama"), wants, score(scorer, wants))
    assert distinct_prefixes(wants) <= scorer.tokens_computed <= distinct_prefixes(wants) + 2 * 12


@settings(max_examples=25, deadline=None)
@given(wants=trees(), data=st.data())
def test_what_is_done_again_after_a_stop_has_the_very_same_digits(wants: list[Want], data: st.DataObject) -> None:
    left = data.draw(st.sets(st.integers(0, len(wants) - 1)))
    whole = score(Scorer(model_of("llama"), 64), wants)
    rest: dict[int, torch.Tensor] = {}
    scorer = Scorer(model_of("llama"), 64)
    scorer.score(wants, lambda indices, found: rest.update(zip(indices, found, strict=True)), left)
    assert left <= set(rest)
    assert all(found.equal(whole[i]) for i, found in rest.items())
    if not left:
        assert scorer.tokens_computed == 0


def test_exact_computes_every_sequence_alone() -> None:
    wants = few_shot()
    scorer = Scorer(model_of("llama"), exact=True)
    assert_exact(model_of("llama"), wants, score(scorer, wants))
    assert (scorer.tokens_computed, scorer.tokens_reused) == (sum(len(want.ids) for want in wants), 0)
    assert scorer.sharing == "no sharing: exact"


@pytest.mark.parametrize(("name", "reason"), [("mistral", "a sliding window of 64 tokens"), ("gemma2", "a sliding window of 64 tokens")])
def test_a_window_shorter_than_the_sequences_is_not_shared_and_says_so(name: str, reason: str) -> None:
    wants = few_shot(2, 3)
    scorer = Scorer(model_of(name), 256)
    assert_exact(model_of(name), wants, score(scorer, wants))
    assert scorer.sharing == f"no sharing: {reason}"
    assert scorer.tokens_reused == 0


@pytest.mark.parametrize("configured", [True, False])
def test_a_recurrent_model_is_not_shared_by_its_configuration_or_found_out_by_trying(
    configured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    wants = few_shot(2, 3)
    scorer = Scorer(model_of("mamba"), 256)
    if not configured:
        monkeypatch.setattr(scoring.Forward, "unshareable", lambda self, longest: None)
    assert_exact(model_of("mamba"), wants, score(scorer, wants))
    assert scorer.sharing.startswith("no sharing: layers of type" if configured else "no sharing: MambaForCausalLM")


def test_bf16_stays_within_a_tenth_of_a_nat() -> None:
    model: Any = tiny("llama")
    model, wants = model.to(torch.bfloat16), few_shot()
    for found, want in zip(score(Scorer(model, 64), wants), wants, strict=True):
        torch.testing.assert_close(found, slow(model, want), atol=0.1, rtol=0)


@pytest.mark.parametrize("room", [200, 40, 30])
def test_running_out_of_memory_splits_the_batch_and_goes_on(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    wants = few_shot(2, 6)
    whole = scoring.Forward.run

    def small(self: Any, grid: Any, *rest: Any) -> Any:
        if grid.ids.numel() > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(self, grid, *rest)

    monkeypatch.setattr(scoring.Forward, "run", small)
    scorer = Scorer(model_of("llama"), 400)
    if room > 30:
        assert_exact(model_of("llama"), wants, score(scorer, wants))
        assert scorer.token_budget < 400
    else:
        with pytest.raises(UserError, match="fit into memory"):
            score(Scorer(model_of("mistral"), 400), wants)


def test_flops_follow_the_formula() -> None:
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=50, hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2)
    ).eval()
    scorer = Scorer(model, exact=True)
    score(scorer, [Want([1, 2, 3, 4, 5], [3, 4, 4], [6, 7, 8])])
    per_layer = 16 * 16 * 2 + 2 * 16 * 8 + 3 * 16 * 24
    assert scorer.flops == 2 * 3 * per_layer * 5 + 4 * 3 * 16 * (1 + 2 + 3 + 4 + 5) + 2 * 50 * 16 * 2


def test_continuations_share_their_context_and_need_no_last_token() -> None:
    model, context = model_of("gpt_neox"), list(range(40))
    continuations = [[7], [8], [9, 10, 11], [9, 10, 12]]
    done: list[int] = []
    found = continuation_logprobs(model, [context] * 4, continuations, on_progress=done.append)
    for continuation, logprobs in zip(continuations, found, strict=True):
        whole = Want(context + continuation, range(39, 39 + len(continuation)), continuation)
        torch.testing.assert_close(logprobs, slow(model, whole), atol=TOLERANCE, rtol=0)
    assert done[-1] == 4
    scorer = Scorer(model)
    wants = [Want(context + one[:-1], range(39, 39 + len(one)), one) for one in continuations]
    score(scorer, wants)
    assert scorer.tokens_computed == 42


@settings(max_examples=20, deadline=None)
@given(
    prompts=st.lists(st.lists(tokens, min_size=1, max_size=20), min_size=1, max_size=5),
    strings=st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=3), min_size=1, max_size=5),
)
def test_a_string_of_several_tokens_has_the_probability_of_the_whole_string(prompts: list[list[int]], strings: list[list[int]]) -> None:
    model = model_of("qwen2")
    found = string_logprobs(model, prompts, strings, token_budget=64)
    for i, prompt in enumerate(prompts):
        for j, string in enumerate(strings):
            whole = Want(prompt + string, range(len(prompt) - 1, len(prompt) - 1 + len(string)), string)
            assert float(found[i, j]) == pytest.approx(float(slow(model, whole).sum()), abs=TOLERANCE)


def test_the_short_way_to_the_logits_is_taken_only_where_it_is_known_to_be_right() -> None:
    assert plain_head(model_of("llama"))
    assert not plain_head(model_of("gemma2"))
