"""The reward model's own rules: rankings, margins, centring, and what is held out."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from modelkit.reward import grouped_last_token_values, last_token_values
from tests.trainers.conftest import World
from trainers.data.dataset import Pair
from trainers.losses import log_sig
from trainers.recipe import RewardStage
from trainers.reward import RewardModelling, from_language_model, hold_out_pairs, rankings


def ranked(world: World, count: int = 4) -> list[Pair]:
    """All ordered pairs of *count* answers, the first the best."""
    answers = [pair.chosen for pair in world.pairs[:count]]
    return [Pair(answers[i], answers[j], ranking="one") for i in range(count) for j in range(i + 1, count)]


def make(world: World, pairs: list[Pair], **changes: Any) -> RewardModelling:
    torch.manual_seed(0)
    settings = RewardStage(**{"data": [], "steps": 10, "lr": 1e-3, "tokens": 10_000, **changes})
    stage = RewardModelling(from_language_model(world.model(), world.tokenizer), pairs, pairs, settings, seed=0)
    stage.begin(0)
    return stage


def test_a_ranking_reads_each_answer_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[int]] = []

    def counting(model: Any, groups: Any) -> torch.Tensor:
        seen.append([len(group) for group in groups])
        return grouped_last_token_values(model, groups)

    monkeypatch.setattr("trainers.reward.grouped_last_token_values", counting)
    [ranking] = rankings(ranked(world))
    assert ranking.comparisons == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    assert ranking.tokens == sum(map(len, ranking.answers))
    make(world, ranked(world)).evaluate()
    assert seen == [[4]]


def test_a_rankings_loss_is_the_mean_over_its_pairs_and_its_gradient_theirs(world: World) -> None:
    """The twin: every pair forwarded on its own, both sides."""
    pairs = ranked(world) + world.pairs[10:12]
    stage = make(world, pairs)
    model: Any = stage.modules["model"]
    total = torch.zeros(())
    for group in (pairs[:6], pairs[6:7], pairs[7:8]):
        for pair in group:
            better, worse = (last_token_values(model, [side]) for side in (pair.chosen, pair.rejected))
            total = total + log_sig(better, worse).sum() / len(group) / 3
    expected = torch.autograd.grad(total, [p for p in model.parameters() if p.requires_grad])
    loss, _, _ = stage._pass(rankings(pairs), [0, 1, 2], [1, 1, 1], learn=True)
    assert loss == pytest.approx(float(total), abs=1e-5)
    for parameter, gradient in zip(stage.optimisers["model"].parameters, expected, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad / 3, gradient, atol=1e-5, rtol=1e-3)


def test_pairs_of_one_ranking_are_held_out_together(world: World) -> None:
    pairs = [Pair(pair.chosen, pair.rejected, ranking=str(i // 3)) for i, pair in enumerate(world.pairs[:30])] + world.pairs[30:40]
    training, held_out = hold_out_pairs(pairs, 0.3, 0, "rm")
    assert len(training) + len(held_out) == 40
    assert not {pair.ranking for pair in training if pair.ranking} & {pair.ranking for pair in held_out}
    assert len(held_out) >= 3


def test_log_sig_and_log_exp_train_the_same_model(world: World) -> None:
    """One function under two names: what is learnt differs by rounding alone."""
    weights = []
    for name in ("log_sig", "log_exp"):
        stage = make(world, world.pairs[:12], loss=name)
        for step in range(3):
            stage.step(step)
        weights.append(torch.cat([p.detach().flatten() for p in stage.modules["model"].parameters()]))
    torch.testing.assert_close(weights[0], weights[1], atol=1e-4, rtol=0)


def test_a_margin_makes_the_same_rewards_cost_more(world: World) -> None:
    plain = world.pairs[:6]
    wide = [Pair(pair.chosen, pair.rejected, pair.starts, margin=2.0) for pair in plain]
    assert make(world, wide).evaluate()["eval_loss"] > make(world, plain).evaluate()["eval_loss"] + 0.5


def test_centring_brings_rewards_towards_zero(world: World) -> None:
    means = []
    for weight in (0.0, 1.0):
        stage = make(world, world.pairs[:20], centre=weight, lr=5e-3)
        model: Any = stage.modules["model"]
        before = stage.evaluate()["eval_accuracy"]
        for step in range(10):
            stage.step(step)
        with torch.no_grad():
            rewards = last_token_values(model, [side for pair in world.pairs[:20] for side in (pair.chosen, pair.rejected)])
        means.append(abs(float(rewards.mean())))
        assert stage.evaluate()["eval_accuracy"] >= before
    assert means[1] < 0.3
    assert means[1] < means[0] + 0.05
