"""Losses and estimators against their formulas, written out slowly."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers import losses
from trainers.ppo import gae


def test_log_sig_and_log_exp_are_one_function() -> None:
    chosen, rejected = torch.tensor([0.0, 3.0, -50.0, 50.0]), torch.tensor([0.0, 1.0, 50.0, -50.0])
    expected = [math.log1p(math.exp(r - c)) for c, r in zip(chosen.tolist(), rejected.tolist(), strict=True)]
    for loss in (losses.log_sig, losses.log_exp):
        assert loss(chosen, rejected).tolist() == pytest.approx(expected, rel=1e-5)
        assert torch.isfinite(loss(chosen.half(), rejected.half())).all()


def test_kl_estimates_average_to_the_exact_kl() -> None:
    policy, reference = torch.tensor([0.6, 0.3, 0.1]), torch.tensor([0.2, 0.5, 0.3])
    exact = float((policy * (policy / reference).log()).sum())
    for kind in ("k1", "k3"):
        assert float((policy * losses.kl_estimate(policy.log(), reference.log(), kind)).sum()) == pytest.approx(exact, rel=1e-5)
    assert (losses.kl_estimate(policy.log(), reference.log(), "k3") >= 0).all()
    assert losses.kl_estimate(policy.log(), policy.log(), "k2").eq(0).all()


def test_the_policy_loss_is_the_clipped_surrogate() -> None:
    old, new = torch.zeros(4), torch.tensor([0.5, -0.5, 0.5, 0.0])
    advantage = torch.tensor([1.0, 1.0, -1.0, 2.0])
    loss, ratio, clipped = losses.policy_loss(new, old, advantage, 0.2)
    expected = [-min(r * a, min(max(r, 0.8), 1.2) * a) for r, a in zip(ratio.tolist(), advantage.tolist(), strict=True)]
    assert loss.tolist() == pytest.approx(expected)
    assert clipped.tolist() == [True, False, False, False]


def test_the_value_loss_takes_the_worse_of_free_and_clipped() -> None:
    values, old, returns = torch.tensor([2.0, 0.1]), torch.zeros(2), torch.tensor([0.0, 1.0])
    assert losses.value_loss(values, old, returns, 0.2).tolist() == pytest.approx([2.0, 0.5 * 0.81])


def test_whitening_gives_mean_zero_and_variance_one_over_the_mask_only() -> None:
    torch.manual_seed(0)
    values, mask = torch.randn(5, 7) * 3 + 2, (torch.rand(5, 7) > 0.4).float()
    white = losses.whiten(values, mask)
    inside = white[mask.bool()]
    assert float(inside.mean()) == pytest.approx(0, abs=1e-6)
    assert float(inside.var(unbiased=False)) == pytest.approx(1, abs=1e-4)
    assert white[~mask.bool()].eq(0).all()


@given(st.integers(0, 10_000), st.floats(0.5, 1.0), st.floats(0.0, 1.0))
@settings(max_examples=25, deadline=None)
def test_gae_equals_the_brute_force_sum(seed: int, gamma: float, lam: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 7, (4,), generator=generator).tolist()
    rewards, values = torch.randn(4, 6, generator=generator), torch.randn(4, 6, generator=generator)
    mask = torch.tensor([[float(t < length) for t in range(6)] for length in lengths])
    found, returns = gae.advantages(rewards, values, mask, gamma, lam)
    for row, length in enumerate(lengths):
        v = [*values[row, :length].tolist(), 0.0]
        delta = [float(rewards[row, t]) + gamma * v[t + 1] - v[t] for t in range(length)]
        for t in range(length):
            expected = sum((gamma * lam) ** (later - t) * delta[later] for later in range(t, length))
            assert float(found[row, t]) == pytest.approx(expected, abs=1e-4)
            assert float(returns[row, t]) == pytest.approx(expected + v[t], abs=1e-4)
        assert found[row, length:].eq(0).all()
        assert returns[row, length:].eq(0).all()


def test_the_score_falls_on_the_last_token_only() -> None:
    mask = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    rewards = gae.token_rewards(torch.full((2, 3), 0.5), mask, torch.tensor([2.0, -1.0]), kl_coef=0.1)
    torch.testing.assert_close(rewards, torch.tensor([[-0.05, 1.95, 0.0], [-0.05, -0.05, -1.05]]))
