"""The invariants PPO must hold, whatever it learns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from transformers import PreTrainedModel

from modelkit.errors import UserError
from modelkit.generation.sampling import Sampling
from modelkit.reward import RewardReference
from tests.trainers.conftest import World
from trainers import checkpointing, losses
from trainers.data.dataset import Example
from trainers.ppo import rollout
from trainers.ppo.experience import Evaluated, estimate, minibatches, scores
from trainers.ppo.kl import KlCoefficient
from trainers.ppo.models import Separate, SharedBackbone
from trainers.ppo.train import Ppo
from trainers.recipe import Lora, PpoStage, RewardStage
from trainers.reward import RewardModelling, from_language_model
from trainers.strategies import Strategy
from trainers.strategies.plain import Single


def make(world: World, ptx: list[Example] | None = None, strategy: Strategy | None = None, **changes: Any) -> Ppo:
    torch.manual_seed(1)
    settings = PpoStage(**{"data": [], "steps": 3, "lr": 1e-3, "prompts": 8, "max_tokens": 12, "ptx_tokens": 100, **changes})
    reward = from_language_model(world.model(), world.tokenizer)
    critic = from_language_model(world.model(), world.tokenizer)
    scale = RewardReference.of([-1.0, 0.0, 1.0])
    cast = Separate(world.model(), critic, world.model())
    stage = Ppo(cast, reward, world.tokenizer, world.prompts, ptx or [], [], scale, settings, 0, strategy, world.prompts[:4])
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


def test_held_out_prompts_are_answered_alike_each_time_and_rewarded_beside_the_distance_from_the_reference(world: World) -> None:
    stage = make(world)
    before = stage.evaluate()
    assert before == stage.evaluate()
    assert abs(before["eval_kl"]) < 1e-4
    stage.step(0)
    after = stage.evaluate()
    assert after["eval_kl"] != pytest.approx(0, abs=1e-3)
    assert after["eval_reward"] != before["eval_reward"]


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


def test_the_first_minibatch_has_ratio_one_even_when_others_follow(world: World) -> None:
    numbers = make(world, epochs=2, minibatches=4, lr=1e-2).step(0).numbers
    assert numbers["first_ratio"] == pytest.approx(1.0, abs=1e-5)
    assert numbers["ratio"] != pytest.approx(1.0, abs=1e-5)


def test_updates_far_from_the_policy_that_sampled_are_left_out_and_counted(world: World) -> None:
    careful, free = (make(world, epochs=3, lr=0.05, skip_ratio=ratio, ptx_coef=0) for ratio in (1.0001, 20.0))
    assert careful.step(0).numbers["left_out"] > 0
    assert free.step(0).numbers["left_out"] == 0
    assert careful.optimisers["actor"].updates == free.optimisers["actor"].updates


class KeptElsewhere(Single):
    """Gradients wait in a store of the strategy's own for the update, as ColossalAI's do."""

    def __init__(self) -> None:
        super().__init__()
        self.store: dict[torch.Tensor, torch.Tensor] = {}

    def backward(self, loss: torch.Tensor, module: nn.Module) -> None:
        super().backward(loss, module)
        for parameter in module.parameters():
            if parameter.grad is not None:
                self.store[parameter] = self.store.get(parameter, 0) + parameter.grad
                parameter.grad = None

    def reduce_gradients(self, parameters: Sequence[nn.Parameter], divide_by: float) -> None:
        for parameter in parameters:
            parameter.grad = self.store.get(parameter)
        super().reduce_gradients(parameters, divide_by)

    def forget_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        super().forget_gradients(parameters)
        for parameter in parameters:
            self.store.pop(parameter, None)


def test_nothing_of_an_update_that_was_left_out_is_in_the_next_one(world: World) -> None:
    found = []
    for strategy in (Single(), KeptElsewhere()):
        stage = make(world, strategy=strategy, epochs=3, minibatches=2, lr=0.05, skip_ratio=1.0001)
        numbers = [stage.step(step).numbers for step in range(2)]
        assert 0 < numbers[0]["left_out"] < 6
        found.append((numbers, [p.detach() for p in stage.modules["actor"].parameters()]))
    assert found[0][0] == found[1][0]
    assert all(torch.equal(a, b) for a, b in zip(found[0][1], found[1][1], strict=True))


def test_a_rollout_is_split_into_as_many_minibatches_as_asked_for(world: World) -> None:
    parts = minibatches(20, 8, seed=0)
    assert sorted(len(part) for part in parts) == [2] * 4 + [3] * 4
    assert sorted(row for part in parts for row in part) == list(range(20))
    with pytest.raises(UserError, match="set it to 8 at most"):
        make(world, minibatches=9)


def test_replies_that_do_not_divide_into_minibatches_resume_at_the_same_ptx_rows(world: World, tmp_path: Path) -> None:
    """Nine replies in chunks of equal size would fill three minibatches, and a fourth be counted."""
    stage = make(world, world.examples, prompts=9, minibatches=4)
    stage.step(0)
    assert stage.optimisers["actor"].updates == 8
    checkpointing.save(stage, 1, {}, tmp_path)
    again = make(world, world.examples, prompts=9, minibatches=4)
    assert checkpointing.resume(again, tmp_path) is not None
    again.begin(1)
    assert again.step(1).numbers == stage.step(1).numbers


def test_scores_are_normalised_clipped_and_penalised(world: World) -> None:
    scale, rewards, stopped = (
        RewardReference(rewards=[], mean=1.0, sd=2.0),
        torch.tensor([3.0, 21.0, 1.0]),
        torch.tensor([True, True, False]),
    )
    base: dict[str, Any] = {"data": [], "steps": 1, "lr": 1.0, "reward_clip": 4.0, "missing_eos_penalty": 0.5}
    assert scores(rewards, stopped, scale, PpoStage(**base)).tolist() == [1.0, 4.0, -0.5]
    assert scores(rewards, stopped, scale, PpoStage(**base, normalise_rewards=False)).tolist() == [3.0, 4.0, 0.5]


def test_advantages_are_white_over_the_whole_rollout_and_rewards_keep_their_mean(world: World) -> None:
    _, replies = sample(world)
    torch.manual_seed(0)
    mask = replies.mask
    numbers = [torch.randn(mask.shape) * mask for _ in range(3)]
    found = Evaluated(replies, numbers[0], numbers[1], numbers[2], torch.randn(6))
    for white in (True, False):
        settings = PpoStage(data=[], steps=1, lr=1.0, whiten_rewards=white, whiten_advantages=white)
        experience, _ = estimate(found, found.rewards, 0.1, settings)
        inside = experience.advantages[mask.bool()]
        assert (abs(float(inside.mean())) < 1e-5) == white
        assert (float(inside.var(unbiased=False)) == pytest.approx(1, abs=1e-3)) == white
    values = torch.tensor([[1.0, 3.0, 9.0]])
    scaled = losses.scale_to_one(values, torch.tensor([[1.0, 1.0, 0.0]]))
    assert scaled.tolist()[0] == pytest.approx([1.0, 3.0, 0.0], abs=1e-5)
    assert losses.scale_to_one(3 * values, torch.tensor([[1.0, 1.0, 0.0]])).tolist()[0] == pytest.approx([5.0, 7.0, 0.0], abs=1e-5)


def test_the_adaptive_coefficient_follows_zieglers_rule_and_is_resumed(world: World, tmp_path: Path) -> None:
    kl = KlCoefficient(0.1, target=2.0, horizon=100)
    kl.update(2.2, 50)
    assert float(kl.value) == pytest.approx(0.1 * (1 + 0.1 * 0.5))
    kl.update(20.0, 50)
    assert float(kl.value) == pytest.approx(0.105 * (1 + 0.2 * 0.5))
    kl.update(0.0, 50)
    assert float(kl.value) == pytest.approx(0.105 * 1.1 * (1 - 0.2 * 0.5))
    fixed = KlCoefficient(0.1, target=0.0, horizon=100)
    fixed.update(20.0, 50)
    assert float(fixed.value) == 0.1
    stage = make(world, kl_target=1e-6, kl_horizon=10)
    first = stage.step(0).numbers["kl_coef"]
    checkpointing.save(stage, 1, {}, tmp_path)
    again = make(world, kl_target=1e-6, kl_horizon=10)
    assert checkpointing.resume(again, tmp_path) is not None
    stage.begin(1)
    again.begin(1)
    one, other = stage.step(1).numbers, again.step(1).numbers
    assert one == other
    assert one["kl_coef"] != first


def test_a_convex_mixture_scales_the_policys_part(world: World) -> None:
    """With a share of 1 nothing but PTX moves the actor: the rewards don't matter."""
    weights = []
    for clip in (5.0, 0.001):
        stage = make(world, world.examples, ptx_mixing="convex", ptx_coef=1.0, reward_clip=clip, whiten_advantages=False)
        stage.step(0)
        weights.append([p.detach().clone() for p in stage.modules["actor"].parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))
    with pytest.raises(ValidationError, match="convex"):
        PpoStage(data=[], steps=1, lr=1.0, ptx_mixing="convex", ptx_coef=2.0)


def shared(world: World, **changes: Any) -> Ppo:
    settings = PpoStage(
        **{"data": [], "steps": 3, "lr": 5e-3, "prompts": 8, "max_tokens": 12, "lora": {"rank": 4}, "share_backbone": True, **changes}
    )
    torch.manual_seed(2)
    reward = from_language_model(world.model(), world.tokenizer)
    cast = SharedBackbone(world.model(), Lora(rank=4))
    stage = Ppo(cast, reward, world.tokenizer, world.prompts, [], [], RewardReference.of([-1.0, 0.0, 1.0]), settings, seed=0)
    stage.begin(0)
    return stage


def test_one_backbone_plays_three_parts(world: World, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    stage, bare = shared(world), world.model()
    ids = torch.tensor([world.prompts[0].ids])
    first = stage.step(0).numbers
    assert first["kl"] == pytest.approx(0, abs=1e-5)
    assert first["first_ratio"] == pytest.approx(1.0, abs=1e-5)
    checkpointing.save(stage, 1, {}, tmp_path)
    numbers = stage.step(1).numbers
    assert numbers["kl_k3"] > 0
    with stage.cast.playing("reference") as model:
        torch.testing.assert_close(model(ids, use_cache=False).logits, bare(ids, use_cache=False).logits, atol=0, rtol=0)
    again = shared(world)
    assert checkpointing.resume(again, tmp_path) is not None
    again.begin(1)
    assert again.step(1).numbers == numbers
    with stage.cast.playing("actor") as model:
        expected = model(ids, use_cache=False).logits
    torch.testing.assert_close(stage.cast.plain("actor")(ids, use_cache=False).logits, expected, atol=1e-5, rtol=0)
    assert not torch.allclose(expected, bare(ids, use_cache=False).logits)
    _, replies = sample(world)
    with stage.cast.playing("critic") as model:
        values = rollout.reply_values(model, replies, range(6))
    torch.testing.assert_close(rollout.reply_values(stage.cast.plain("critic"), replies, range(6)), values, atol=1e-5, rtol=0)
    assert values.abs().sum() > 0


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
