"""Preference optimisation as a stage: it starts where the reference is, accumulates exactly, and learns."""

from __future__ import annotations

import shutil
import weakref
from pathlib import Path
from typing import Any, Literal, get_args

import pytest
import torch
from pydantic import ValidationError
from transformers import PreTrainedModel

from tests.trainers.conftest import World, from_pairs
from trainers import checkpointing, distributed
from trainers.dpo import PreferenceOptimisation
from trainers.kto import KahnemanTversky, mismatched
from trainers.logprobs import Reference, of_reference, reply_logprob_sums
from trainers.loop import computing_in
from trainers.recipe import DpoStage, KtoStage
from trainers.strategies.plain import Single

LOSSES = get_args(DpoStage.model_fields["loss"].annotation)


def stage(world: World, model: PreTrainedModel | None = None, cache: Path | None = None, **changes: Any) -> PreferenceOptimisation:
    settings = DpoStage(**{"data": [], "steps": 20, "lr": 1e-3, "tokens": 500, **changes})
    reference = Reference(world.model, "sha256:start", cache) if settings.needs_reference else None
    made = PreferenceOptimisation(
        model or world.model(), reference, world.tokenizer, world.pairs[8:40], world.pairs[:8], world.prompts[:1], settings, seed=0
    )
    made.begin(0)
    return made


def test_reply_logprobs_are_the_full_models(world: World) -> None:
    model, pairs = world.model(), world.pairs[:5]
    found = reply_logprob_sums(model, [pair.chosen for pair in pairs], [pair.starts[0] for pair in pairs])
    for pair, total in zip(pairs, found.tolist(), strict=True):
        chances = model(torch.tensor([pair.chosen]), use_cache=False).logits[0].log_softmax(-1)
        expected = sum(float(chances[at - 1, pair.chosen[at]]) for at in range(pair.starts[0], len(pair.chosen)))
        assert total == pytest.approx(expected, abs=1e-3)


def test_a_reply_starts_after_the_prompt_and_ends_with_the_end_of_sequence(world: World) -> None:
    for pair in world.pairs[:20]:
        start = pair.starts[0]
        assert pair.chosen[:start] == pair.rejected[: pair.starts[1]]
        assert pair.chosen[-1] == pair.rejected[-1] == world.tokenizer.eos_token_id


def test_margin_and_rewards_are_zero_while_policy_and_reference_are_the_same(world: World) -> None:
    numbers = stage(world).step(0).numbers
    for name in ("margin", "reward_chosen", "reward_rejected"):
        assert numbers[name] == pytest.approx(0, abs=1e-5)
    assert numbers["loss"] == pytest.approx(0.693147, abs=1e-5)
    assert numbers["logp_chosen"] < 0


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_raises_the_held_out_margin(world: World, loss: str) -> None:
    smoothing = 0.1 if loss in ("cdpo", "robust") else 0.0
    made = stage(world, loss=loss, label_smoothing=smoothing, lr=2e-3)
    before = made.evaluate()["eval_margin"]
    for step in range(12):
        made.step(step)
    after = made.evaluate()
    assert after["eval_margin"] > before
    assert set(after) == {f"eval_{name}" for name in made.step(12).numbers if name not in ("lr", "grad_norm")}


@pytest.mark.parametrize("loss", ["sigmoid", "orpo"])
def test_micro_batches_give_the_large_batchs_update(world: World, loss: str) -> None:
    weights = []
    for micro_tokens in (100_000, 1):
        model = world.model()
        made = stage(world, model, loss=loss, micro_tokens=micro_tokens, nll_coef=0.5)
        made.step(0)
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    torch.testing.assert_close(weights[0], weights[1], atol=2e-5, rtol=0)


def test_the_reference_is_computed_once_and_not_kept(world: World, tmp_path: Path) -> None:
    loaded: list[PreTrainedModel] = []

    def load() -> PreTrainedModel:
        loaded.append(world.model())
        return loaded[-1]

    def computed(fingerprint: str, rows: int, dtype: Literal["fp32", "bf16"] = "fp32") -> torch.Tensor:
        pairs, settings = world.pairs[:rows], DpoStage(data=[], steps=1, lr=1.0, micro_tokens=1000, dtype=dtype)
        reference = Reference(load, fingerprint, tmp_path)
        return of_reference(reference, [pair.chosen for pair in pairs], [pair.starts[0] for pair in pairs], settings, Single())

    first = computed("sha256:a", 4)
    assert torch.equal(computed("sha256:a", 4), first)
    assert len(loaded) == 1
    computed("sha256:b", 4)
    computed("sha256:a", 3)
    computed("sha256:a", 4, "bf16")
    assert len(loaded) == 4
    for damage in (lambda content: content[:-5], lambda content: content[:-1] + bytes([content[-1] ^ 1])):
        for file in tmp_path.glob("*/logprobs.safetensors"):
            file.write_bytes(damage(file.read_bytes()))
        assert torch.equal(computed("sha256:a", 4), first)
    assert len(loaded) == 6


@pytest.mark.parametrize("name", ["single", "zero3"])
def test_the_reference_is_let_go_of(world: World, name: str) -> None:
    loaded: list[weakref.ref[PreTrainedModel]] = []

    def load() -> PreTrainedModel:
        model = world.model()
        loaded.append(weakref.ref(model))
        return model

    with distributed.joined(name, device="cpu") as strategy:
        of_reference(Reference(load, "sha256:a"), [[1, 2, 3]], [1], DpoStage(data=[], steps=1, lr=1.0), strategy)
        assert loaded[0]() is None


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_the_reference_computes_in_the_policys_precision(world: World, dtype: Literal["fp32", "bf16"]) -> None:
    settings, pairs, model = DpoStage(data=[], steps=1, lr=1.0, micro_tokens=1, dtype=dtype), world.pairs[:3], world.model()
    sequences, starts = [pair.chosen for pair in pairs], [pair.starts[0] for pair in pairs]
    found = of_reference(Reference(world.model, "sha256:a"), sequences, starts, settings, Single())
    with torch.no_grad(), computing_in(dtype, torch.device("cpu")):
        expected = [reply_logprob_sums(model, [ids], [start]) for ids, start in zip(sequences, starts, strict=True)]
    assert torch.equal(found, torch.cat(expected))


def test_a_stopped_stage_goes_on_bitwise_without_the_reference(world: World, tmp_path: Path) -> None:
    whole = world.model()
    made = stage(world, whole, tmp_path)
    for step in range(4):
        if step == 2:
            checkpointing.save(made, step, {}, tmp_path)
        made.step(step)
    model = world.model()
    settings = made.settings
    reference = Reference(lambda: pytest.fail("the reference was loaded again"), "sha256:start", tmp_path)
    resumed = PreferenceOptimisation(model, reference, world.tokenizer, world.pairs[8:40], world.pairs[:8], [], settings, seed=0)
    found = checkpointing.resume(resumed, tmp_path)
    assert found is not None
    resumed.begin(found[0])
    for step in range(2, 4):
        resumed.step(step)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), model.parameters(), strict=True))
    shutil.rmtree(tmp_path)


def test_smoothing_without_a_loss_that_uses_it_is_refused() -> None:
    for loss, smoothing in (("sigmoid", 0.1), ("cdpo", 0.0)):
        with pytest.raises(ValidationError, match="label_smoothing"):
            DpoStage(data=[], steps=1, lr=1.0, loss=loss, label_smoothing=smoothing)


def kto(world: World, model: PreTrainedModel, **changes: Any) -> KahnemanTversky:
    settings = KtoStage(**{"data": [], "steps": 20, "lr": 2e-3, "tokens": 500, **changes})
    reference = Reference(world.model, "sha256:start")
    rows, held_out = from_pairs(world.pairs[8:40]), from_pairs(world.pairs[:8])
    made = KahnemanTversky(model, reference, world.tokenizer, rows, held_out, [], settings, seed=0)
    made.begin(0)
    return made


def gradients(stage: PreferenceOptimisation | KahnemanTversky) -> torch.Tensor:
    """The mean gradient of the stage's first step."""
    found: list[torch.Tensor] = []
    optimiser = stage.optimisers["model"]

    def keep(divide_by: float = 1.0) -> dict[str, float]:
        found.append(torch.cat([p.grad.flatten() for p in optimiser.parameters if p.grad is not None]) / divide_by)
        return {}

    optimiser.step = keep  # type: ignore[method-assign]
    stage.step(0)
    return found[0]


def test_kto_on_both_sides_of_pairs_starts_in_dpos_direction(world: World) -> None:
    """Where policy and reference are one, z₀ is 0 and σ flat: of n pairs DPO's gradient is β/2 Σ(∇r_l − ∇r_w)/n, KTO's β/4 Σ(…)/2n."""
    tokens = sum(len(pair.chosen) + len(pair.rejected) for pair in world.pairs[8:40])
    labelled, paired = gradients(kto(world, world.model(), tokens=tokens)), gradients(stage(world, tokens=tokens))
    torch.testing.assert_close(4 * labelled, paired, atol=1e-4, rtol=1e-4)


def test_kto_learns_from_unpaired_labels(world: World) -> None:
    """In steps of dozens of replies: nothing pairs them, so in a step of ten most of the gradient is what good and bad ones share."""
    made = kto(world, world.model(), tokens=1500)
    before = made.evaluate()
    assert before["eval_margin"] == pytest.approx(0, abs=1e-5)
    assert before["eval_loss"] == pytest.approx(0.5, abs=1e-5)
    numbers = [made.step(step).numbers for step in range(12)]
    assert numbers[0]["kl"] == pytest.approx(0, abs=1e-4)
    assert made.evaluate()["eval_margin"] > 0.05


def test_ktos_baseline_is_the_steps_whatever_the_micro_batches(world: World) -> None:
    found = []
    for micro_tokens in (100_000, 1):
        model = world.model()
        made = kto(world, model, micro_tokens=micro_tokens)
        for step in range(2):
            numbers = made.step(step).numbers
        found.append((numbers["kl"], torch.cat([p.detach().flatten() for p in model.parameters()])))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-3)
    torch.testing.assert_close(found[0][1], found[1][1], atol=5e-5, rtol=0)


def test_mismatched_replies_belong_to_other_prompts(world: World) -> None:
    rows = from_pairs(world.pairs[:6])
    for row, other in zip(rows, mismatched(rows), strict=True):
        assert other.ids[: other.start] == row.ids[: row.start]
        assert other.ids[other.start :] != row.ids[row.start :]
