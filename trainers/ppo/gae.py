"""Per-token rewards of a reply, and generalised advantage estimation over them."""

from __future__ import annotations

import torch
from torch import Tensor


def token_rewards(kl: Tensor, mask: Tensor, scores: Tensor, kl_coef: float) -> Tensor:
    """−kl_coef · KL at every token, plus the reply's score at its last token only.

    :param kl: per-token KL estimate, [replies, length]; *mask* alike, 1 on the reply's tokens (a contiguous run from column 0).
    :param scores: [replies].
    """
    rewards = -kl_coef * kl * mask
    last = mask.sum(1).long() - 1
    rewards[torch.arange(len(scores)), last] += scores
    return rewards


def advantages(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    """GAE (Schulman et al. 2016, eq. 16): A_t = Σ_l (γλ)^l δ_{t+l}, δ_t = r_t + γ V_{t+1} − V_t, with V = 0 after the end.

    :param values: V(s_t), the value *before* token t was chosen; all tensors are [replies, length].
    :returns: advantages and returns (A + V), 0 outside *mask*.
    """
    rewards, values = rewards * mask, values * mask
    result = torch.zeros_like(rewards)
    running = torch.zeros_like(rewards[:, 0])
    for t in reversed(range(rewards.shape[1])):
        following = values[:, t + 1] if t + 1 < rewards.shape[1] else torch.zeros_like(running)
        delta = rewards[:, t] + gamma * following - values[:, t]
        running = (delta + gamma * lam * running) * mask[:, t]
        result[:, t] = running
    return result, (result + values) * mask
