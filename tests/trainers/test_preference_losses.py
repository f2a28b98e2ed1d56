"""Preference and group losses against their papers' formulas, written out one number at a time, and against values worked by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainers.losses import grpo, preference, reward

H = [-3.0, -0.5, 0.0, 0.7, 4.0]


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


@pytest.mark.parametrize(
    ("loss", "literal"),
    [
        (lambda h: preference.sigmoid(h, 0.1), lambda h: -log_sigmoid(0.1 * h)),
        (lambda h: preference.sigmoid(h, 2.0, 0.1), lambda h: -0.9 * log_sigmoid(2 * h) - 0.1 * log_sigmoid(-2 * h)),
        (
            lambda h: preference.robust(h, 0.5, 0.2),
            lambda h: (-0.8 * log_sigmoid(0.5 * h) + 0.2 * log_sigmoid(-0.5 * h)) / (1 - 2 * 0.2),
        ),
        (lambda h: preference.ipo(h, 0.1), lambda h: (h - 5) ** 2),
        (lambda h: preference.hinge(h, 0.5), lambda h: max(0.0, 1 - 0.5 * h)),
    ],
    ids=["sigmoid", "cdpo", "robust", "ipo", "hinge"],
)
def test_a_paired_loss_is_its_formula(loss: Callable[[Tensor], Tensor], literal: Callable[[float], float]) -> None:
    assert loss(torch.tensor(H)).tolist() == pytest.approx([literal(h) for h in H], rel=1e-5)


def test_hand_values() -> None:
    zero, ten = torch.tensor([0.0]), torch.tensor([10.0])
    assert preference.sigmoid(zero, 0.1).item() == pytest.approx(math.log(2))
    assert preference.sigmoid(ten, 0.1).item() == pytest.approx(0.3132617)
    assert preference.ipo(zero, 0.5).item() == 1.0
    assert preference.hinge(ten, 0.1).item() == pytest.approx(0)
    assert preference.simpo(torch.tensor([-1.0]), torch.tensor([-1.5]), 2.0, 1.0).item() == pytest.approx(math.log(2))
    half = torch.tensor([math.log(0.5)])
    assert preference.log_odds(half).item() == pytest.approx(0, abs=1e-6)
    assert preference.orpo(half, half, 0.1).item() == pytest.approx(math.log(2) + 0.1 * math.log(2))
    good, bad = torch.tensor([True]), torch.tensor([False])
    assert preference.kto(ten, good, torch.tensor(10.0), 0.1).item() == pytest.approx(0.5)
    assert preference.kto(ten, bad, torch.tensor(0.0), 0.1, (1.0, 2.0)).item() == pytest.approx(2 / (1 + math.exp(-1)))


def test_the_lead_is_the_difference_of_log_ratios() -> None:
    numbers = [torch.tensor([value]) for value in (-1.0, -2.0, -1.5, -1.0)]
    assert preference.lead(*numbers).item() == pytest.approx((-1.0 + 1.5) - (-2.0 + 1.0))


def test_the_robust_loss_averages_to_the_clean_one_under_flipped_labels() -> None:
    """E over flips of the noisy loss at ±h is the loss without noise: what makes it unbiased."""
    h, flip = torch.tensor(H), 0.2
    noisy = (1 - flip) * preference.robust(h, 0.7, flip) + flip * preference.robust(-h, 0.7, flip)
    torch.testing.assert_close(noisy, preference.sigmoid(h, 0.7))


def test_odds_stay_finite_for_a_certain_reply() -> None:
    for certain in (0.0, -1e-12):
        logprob = torch.tensor([certain], requires_grad=True)
        preference.orpo(logprob, torch.tensor([-1.0]), 0.1).sum().backward()
        assert logprob.grad is not None
        assert torch.isfinite(logprob.grad).all()


def test_ktos_gradients_push_good_replies_up_and_bad_ones_down() -> None:
    ratio = torch.zeros(2, requires_grad=True)
    baseline = torch.zeros((), requires_grad=True)
    preference.kto(ratio, torch.tensor([True, False]), baseline, 0.1).sum().backward()
    assert ratio.grad is not None
    assert ratio.grad[0] < 0 < ratio.grad[1]
    assert baseline.grad is None
    assert preference.kto_baseline(-3.0, 2) == 0
    assert preference.kto_baseline(3.0, 2) == 1.5


def test_a_margin_asks_for_that_much_more_and_centring_pulls_towards_zero() -> None:
    chosen, rejected = torch.tensor([1.5, 0.0]), torch.tensor([0.5, 0.0])
    for loss in (reward.log_sig, reward.log_exp):
        assert loss(chosen, rejected, torch.tensor([1.0, 2.0])).tolist() == pytest.approx([math.log(2), math.log1p(math.exp(2))])
    assert reward.centring(chosen, rejected).tolist() == [4.0, 0.0]


def test_advantages_compare_a_reply_with_its_siblings_only() -> None:
    rewards = torch.tensor([[1.0, 0.0, 0.0, 1.0], [5.0, 5.0, 5.0, 5.0]])
    sd = math.sqrt(4 * 0.25 / 3)
    found = grpo.group_advantages(rewards, scale=True, eps=0.0)
    assert found[0].tolist() == pytest.approx([0.5 / sd, -0.5 / sd, -0.5 / sd, 0.5 / sd])
    assert grpo.group_advantages(rewards, scale=True)[1].eq(0).all()
    assert grpo.group_advantages(rewards, scale=False)[0].tolist() == [0.5, -0.5, -0.5, 0.5]


def test_clip_higher_leaves_rare_good_tokens_more_room() -> None:
    new, advantage = torch.tensor([math.log(1.25), math.log(0.75)]), torch.tensor([1.0, -1.0])
    loss, ratio, clipped = grpo.clipped_surrogate(new, torch.zeros(2), advantage, 0.2, 0.28)
    assert ratio.tolist() == pytest.approx([1.25, 0.75])
    assert loss.tolist() == pytest.approx([-1.25, 0.8])
    assert clipped.tolist() == [False, True]


@given(st.integers(0, 10_000), st.sampled_from(["grpo", "dapo", "dr_grpo"]))
@settings(max_examples=30, deadline=None)
def test_token_weights_summed_over_microbatches_are_the_papers_means(seed: int, kind: str) -> None:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 9, (6,), generator=generator).tolist()
    losses = torch.randn(6, 8, generator=generator)
    mask = torch.tensor([[float(t < length) for t in range(8)] for length in lengths])
    found = sum(
        float((losses[rows] * grpo.token_weights(mask[rows], kind, 6, float(sum(lengths)), 8)).sum()) for rows in ([0, 1], [2], [3, 4, 5])
    )
    sums = [float(losses[row, :length].sum()) for row, length in enumerate(lengths)]
    expected = {
        "grpo": sum(total / length for total, length in zip(sums, lengths, strict=True)) / 6,
        "dapo": sum(sums) / sum(lengths),
        "dr_grpo": sum(sums) / (6 * 8),
    }[kind]
    assert found == pytest.approx(expected, abs=1e-5)


def test_an_unknown_loss_is_an_error() -> None:
    with pytest.raises(ValueError, match="unknown GRPO loss"):
        grpo.token_weights(torch.ones(1, 1), "other", 1, 1, 1)
