"""The invariants PPO must hold, whatever it learns."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from modelkit.generation.sampling import Sampling
from modelkit.reward import RewardReference
from tests.trainers.conftest import World
from trainers.data.dataset import Example
from trainers.ppo import rollout
from trainers.ppo.models import Separate
from trainers.ppo.train import Ppo
from trainers.recipe import PpoStage, RewardStage
from trainers.reward import RewardModelling, from_language_model


def make(world: World, ptx: list[Example] | None = None, **changes: Any) -> Ppo:
    torch.manual_seed(1)
    settings = PpoStage(**{"data": [], "steps": 3, "lr": 1e-3, "prompts": 8, "max_tokens": 12, "ptx_tokens": 100, **changes})
    reward = from_language_model(world.model(), world.tokenizer)
    critic = from_language_model(world.model(), world.tokenizer)
    scale = RewardReference.of([-1.0, 0.0, 1.0])
    cast = Separate(world.model(), critic, world.model())
    stage = Ppo(cast, reward, world.tokenizer, world.prompts, ptx or [], [], scale, settings, seed=0)
    stage.begin(0)
    return stage


def sample(world: World, temperature: float = 1.0) -> tuple[PreTrainedModel, rollout.Replies]:
    model = world.model()
    sampling = [Sampling(max_tokens=10, temperature=temperature, seed=i) for i in range(6)]
    return model, rollout.sample(model, [prompt.ids for prompt in world.prompts[:6]], sampling, [2])


def test_the_ratio_is_one_and_nothing_is_clipped_before_the_first_update(world: World) -> None:
    numbers = make(world, epochs=1, minibatches=1).step(0).numbers
    assert numbers["ratio"] == pytest.approx(1.0, abs=1e-5)
    assert numbers["clip_fraction"] == 0
    assert numbers["approx_kl"] == pytest.approx(0, abs=1e-9)


def test_the_kl_is_zero_while_policy_and_reference_are_the_same(world: World) -> None:
    stage = make(world)
    assert abs(stage.step(0).numbers["kl"]) < 1e-4
    assert stage.step(1).numbers["kl_k3"] > 1e-6


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_rollout_logprobs_are_those_the_replies_were_sampled_with(world: World, temperature: float) -> None:
    """Temperature enters every evaluation of a policy; one row at a time through the full model as the twin."""
    model, replies = sample(world, temperature)
    found, entropy = rollout.reply_logprobs(model, replies, range(6), temperature)
    for row, (sequence, start) in enumerate(zip(replies.sequences, replies.prompt_lengths, strict=True)):
        chances = (model(torch.tensor([sequence]), use_cache=False).logits[0].float() / temperature).log_softmax(-1)
        for t, token in enumerate(sequence[start:]):
            assert float(found[row, t]) == pytest.approx(chances[start + t - 1, token].item(), abs=1e-4)
            expected = -(chances[start + t - 1].exp() * chances[start + t - 1]).sum()
            assert float(entropy[row, t]) == pytest.approx(float(expected), abs=1e-4)
        assert found[row, len(sequence) - start :].eq(0).all()


def test_values_are_those_before_each_token(world: World) -> None:
    _, replies = sample(world)
    critic = from_language_model(world.model(), world.tokenizer)
    values = rollout.reply_values(critic, replies, range(6))
    head: Any = critic.score
    for row, (sequence, start) in enumerate(zip(replies.sequences, replies.prompt_lengths, strict=True)):
        hidden = critic.base_model(torch.tensor([sequence])).last_hidden_state
        every = head(hidden)[0, :, 0]
        torch.testing.assert_close(values[row, : len(sequence) - start], every[start - 1 : -1], atol=1e-5, rtol=0)


def test_batching_changes_no_number(world: World) -> None:
    model, replies = sample(world)
    whole = rollout.in_batches(lambda rows: rollout.reply_logprobs(model, replies, rows, 1.0)[0], replies, 10_000)
    single = rollout.in_batches(lambda rows: rollout.reply_logprobs(model, replies, rows, 1.0)[0], replies, 1)
    torch.testing.assert_close(whole, single, atol=1e-5, rtol=0)


def test_two_rollouts_draw_different_noise_and_the_same_step_draws_the_same(world: World) -> None:
    stage = make(world, lr=1e-12, ptx_coef=0)
    lengths = [stage.step(step).numbers["reward"] for step in (0, 1)]
    assert lengths[0] != lengths[1]
    assert make(world, lr=1e-12, ptx_coef=0).step(0).numbers["reward"] == pytest.approx(lengths[0], abs=1e-5)


def test_ptx_adds_its_gradient_to_the_same_update(world: World) -> None:
    numbers = make(world, world.examples).step(0).numbers
    assert numbers["ptx_loss"] > 0
    assert "ptx_loss" not in make(world, world.examples, ptx_coef=0).step(0).numbers


def test_the_policy_learns_what_is_rewarded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reward for tokens of the lower half of the vocabulary: PPO must make them more frequent."""
    shares: list[float] = []

    def low_tokens(model: PreTrainedModel, replies: rollout.Replies, *_: object) -> torch.Tensor:
        said = [sequence[start:] for sequence, start in zip(replies.sequences, replies.prompt_lengths, strict=True)]
        rewards = torch.tensor([sum(token < 350 for token in reply) / len(reply) for reply in said])
        shares.append(float(rewards.mean()))
        return 4 * rewards

    monkeypatch.setattr("trainers.ppo.train.rewards_of", low_tokens)
    stage = make(world, steps=20, prompts=24, lr=1e-2, kl_coef=0.0, missing_eos_penalty=0.0, critic_lr=3e-3)
    for step in range(20):
        stage.step(step)
    assert sum(shares[-3:]) > 1.15 * sum(shares[:3])


def test_the_critic_alone_moves_during_its_warm_up(world: World) -> None:
    stage = make(world, critic_warmup=1)
    actor, critic = ([p.detach().clone() for p in stage.modules[name].parameters()] for name in ("actor", "critic"))
    stage.step(0)
    assert all(torch.equal(a, b) for a, b in zip(actor, stage.modules["actor"].parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(critic, stage.modules["critic"].parameters(), strict=True))


def test_the_reward_model_starts_from_the_language_models_body_and_learns_pairs(world: World) -> None:
    language = world.model()
    model = from_language_model(language, world.tokenizer)
    ids = torch.tensor([world.prompts[0].ids])
    assert torch.equal(model.base_model(ids).last_hidden_state, language.base_model(ids).last_hidden_state)
    settings = RewardStage(data=[], steps=25, lr=5e-3, tokens=600)
    stage = RewardModelling(model, world.pairs, world.pairs[:60], settings, seed=0)
    stage.begin(0)
    before = stage.evaluate()["eval_accuracy"]
    for step in range(25):
        stage.step(step)
    assert stage.evaluate()["eval_accuracy"] > max(0.65, before)
