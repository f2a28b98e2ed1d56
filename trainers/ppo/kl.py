"""The weight of the KL penalty: fixed, or steered towards a target distance."""

from __future__ import annotations

import torch
from torch import nn


class KlCoefficient(nn.Module):
    """β ← β · (1 + clip(KL/target − 1, ±0.2) · replies/horizon) after every rollout (Ziegler et al. 2019, section 2.2).

    A module, so that its one number is saved and resumed with the weights. With a *target* of 0 it stays where it starts.
    """

    value: torch.Tensor

    def __init__(self, start: float, target: float, horizon: int) -> None:
        super().__init__()
        self.target, self.horizon = target, horizon
        self.register_buffer("value", torch.tensor(start, dtype=torch.float64))

    def update(self, kl: float, replies: int) -> None:
        """Take note of the mean KL, in nats per reply, of a rollout of so many *replies*."""
        if self.target:
            error = min(max(kl / self.target - 1, -0.2), 0.2)
            self.value *= 1 + error * replies / self.horizon
