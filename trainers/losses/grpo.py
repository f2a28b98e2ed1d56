"""Group-relative policy optimisation: a reply is as good as it is better than its siblings."""

from __future__ import annotations

import torch
from torch import Tensor


def group_advantages(rewards: Tensor, scale: bool, eps: float = 1e-4) -> Tensor:
    """(r − mean) / (sd + eps) within each prompt's replies (Shao et al. 2024, section 4.1.2); without *scale* r − mean (Liu et al. 2025).

    :param rewards: [prompts, replies per prompt]. The standard deviation is the sample's (n − 1). A group of equal rewards gets zeros.
    """
    centred = rewards - rewards.mean(1, keepdim=True)
    return centred / (rewards.std(1, keepdim=True) + eps) if scale else centred


def clipped_surrogate(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, low: float, high: float) -> tuple[Tensor, Tensor, Tensor]:
    """−min(ρA, clip(ρ, 1 − low, 1 + high) A), per token; high > low is DAPO's clip-higher (Yu et al. 2025, eq. 10).

    :param advantages: broadcast against the tokens.
    :returns: loss, probability ratio ρ, and whether the clipped side was taken.
    """
    ratio = (logprobs - old_logprobs).clamp(-20.0, 20.0).exp()
    free, clipped = -advantages * ratio, -advantages * ratio.clamp(1 - low, 1 + high)
    return torch.maximum(free, clipped), ratio, clipped > free


def token_weights(mask: Tensor, kind: str, replies: int, tokens: float, max_tokens: int) -> Tensor:
    """What each token's loss is multiplied by, so that a plain sum over all micro-batches of an update is the mean wanted.

    grpo: every reply counts alike, 1/(G·|o_i|) (Shao et al. 2024, eq. 3); dapo: every token counts alike, 1/Σ|o_i| (Yu et al. 2025,
    eq. 8); dr_grpo: 1/(G·longest allowed), free of a length bias (Liu et al. 2025, section 3.2).

    :param mask: [rows, length] of a micro-batch; *replies* and *tokens* are the numbers in the whole update.
    """
    if kind == "grpo":
        return mask / (mask.sum(1, keepdim=True).clamp(min=1) * replies)
    if kind == "dapo":
        return mask / tokens
    if kind == "dr_grpo":
        return mask / (replies * max_tokens)
    raise ValueError(f"unknown GRPO loss {kind!r}")
