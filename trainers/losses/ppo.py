"""Proximal policy optimisation: the clipped surrogate, the clipped value loss, and means over tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from trainers.losses.grpo import clipped_surrogate


def policy_loss(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, clip: float) -> tuple[Tensor, Tensor, Tensor]:
    """PPO's clipped surrogate, per token (Schulman et al. 2017, eq. 7, negated).

    :returns: loss, probability ratio, and whether the clipped side was taken; all of the inputs' shape.
    """
    return clipped_surrogate(logprobs, old_logprobs, advantages, clip, clip)


def value_loss(values: Tensor, old_values: Tensor, returns: Tensor, clip: float) -> Tensor:
    """½ max((V − R)², (clip(V, V_old ± clip) − R)²), per token."""
    near = old_values + (values - old_values).clamp(-clip, clip)
    return 0.5 * torch.maximum((values - returns) ** 2, (near - returns) ** 2)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the positions where *mask* is 1."""
    return (values * mask).sum() / mask.sum()


def whiten(values: Tensor, mask: Tensor, eps: float = 1e-8) -> Tensor:
    """Shift and scale to mean 0 and variance 1 over the masked positions of the whole batch; 0 elsewhere."""
    mean = masked_mean(values, mask)
    variance = masked_mean((values - mean) ** 2, mask)
    return (values - mean) * (variance + eps).rsqrt() * mask


def scale_to_one(values: Tensor, mask: Tensor, eps: float = 1e-8) -> Tensor:
    """Scale to variance 1 over the masked positions, keeping the mean, as reward whitening does; 0 elsewhere."""
    return (whiten(values, mask, eps) + masked_mean(values, mask)) * mask
