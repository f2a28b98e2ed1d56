"""Packed rows give the numbers of separate ones on every attention function; NEFTune's noise belongs to the row, not the batch."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, BloomConfig

from modelkit.errors import UserError
from modelkit.scoring.logits import logits_at
from tests.trainers.conftest import World
from trainers.recipe import LanguageStage
from trainers.sft import LanguageModelling, check_packing, example_loss_sum, neftune_noise, packed_batches

SETTINGS = LanguageStage(steps=3, lr=1e-2, tokens=300, micro_tokens=200, eps=1e-4)


@pytest.mark.parametrize(("attention", "checkpointing"), [("sdpa", False), ("sdpa", True), ("eager", False), ("flex_attention", False)])
def test_packed_logits_equal_unpacked_logits(world: World, attention: str, checkpointing: bool) -> None:
    model = world.model()
    model.set_attn_implementation(attention)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.train()
    sequences = [example.ids for example in world.examples[:4]]
    packed = torch.tensor([[token for ids in sequences for token in ids]])
    positions = torch.tensor([[i for ids in sequences for i in range(len(ids))]])
    columns = torch.arange(packed.shape[1])
    start = 0
    for parameter in model.parameters():
        parameter.requires_grad_(attention != "flex_attention")  # which has no backward pass on a CPU
    together = logits_at(model, packed, torch.zeros_like(columns), columns, positions)
    for ids in sequences:
        alone = logits_at(model, torch.tensor([ids]), torch.zeros(len(ids), dtype=torch.long), torch.arange(len(ids)))
        torch.testing.assert_close(together[start : start + len(ids)], alone, atol=2e-5, rtol=0)
        start += len(ids)


def test_a_model_that_mixes_packed_sequences_is_refused(world: World) -> None:
    check_packing(world.model())
    torch.manual_seed(0)
    mixing = AutoModelForCausalLM.from_config(BloomConfig(vocab_size=64, hidden_size=32, n_layer=2, n_head=4, initializer_range=0.3)).eval()
    with pytest.raises(UserError, match="don't keep packed sequences apart"):
        check_packing(mixing)


def test_packed_batches_hold_every_row_once_and_keep_their_size() -> None:
    lengths = [5, 90, 30, 30, 7, 100, 4]
    batches = packed_batches([0, 1, 2, 3, 4, 5], lengths, 64)
    assert sorted(i for batch in batches for i in batch) == [0, 1, 2, 3, 4, 5]
    assert all(sum(lengths[i] for i in batch) <= 100 for batch in batches)


def test_packing_takes_the_steps_of_padding(world: World) -> None:
    weights = []
    for packing in (False, True):
        model = world.model().double()
        settings = SETTINGS.model_copy(update={"packing": packing})
        stage = LanguageModelling("sft", model, world.tokenizer, world.examples, world.examples[:9], [], settings, seed=0)
        stage.begin(0)
        for step in range(2):
            stage.step(step)
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
        weights.append(torch.tensor([stage.evaluate()["eval_loss"]]))
    torch.testing.assert_close(weights[0], weights[2], atol=2e-5, rtol=0)
    torch.testing.assert_close(weights[1], weights[3], atol=1e-5, rtol=0)


def test_noise_is_bounded_by_the_examples_own_size_and_named_by_its_seed() -> None:
    noise = neftune_noise(20, 32, 5.0, seed=3)
    assert float(noise.abs().max()) <= 5 / (20 * 32) ** 0.5
    assert float(noise.std()) == pytest.approx(5 / (3 * 20 * 32) ** 0.5, rel=0.1)
    assert torch.equal(noise, neftune_noise(20, 32, 5.0, seed=3))
    assert not torch.equal(noise, neftune_noise(20, 32, 5.0, seed=4))


def test_noise_reaches_the_embeddings_and_leaves_with_the_block(world: World) -> None:
    model, example = world.model(), world.examples[0]
    clean = example_loss_sum(model, [example])
    noise = neftune_noise(len(example.ids), 32, 50.0, seed=0)
    assert not torch.equal(example_loss_sum(model, [example], [noise]), clean)
    assert torch.equal(example_loss_sum(model, [example]), clean)


@pytest.mark.parametrize("packing", [False, True])
def test_noise_does_not_depend_on_how_a_step_is_divided(world: World, packing: bool) -> None:
    weights = []
    for micro_tokens in (60, 10_000):
        model = world.model().double()
        settings = SETTINGS.model_copy(update={"neftune": 15.0, "micro_tokens": micro_tokens, "packing": packing})
        stage = LanguageModelling("sft", model, world.tokenizer, world.examples, [], [], settings, seed=0)
        stage.begin(0)
        stage.step(0)
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    torch.testing.assert_close(weights[0], weights[1], atol=2e-5, rtol=0)
