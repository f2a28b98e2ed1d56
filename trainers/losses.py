"""Losses and estimators as pure functions of tensors, named after their formulas. All take and return natural logarithms.

``mask`` is 1 where a token counts, 0 elsewhere; sums are normalised by the caller's count (usually the label tokens of a whole
optimizer step), so that accumulating micro-batches gives the gradient of the large batch exactly.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def cross_entropy_sum(logits: Tensor, labels: Tensor) -> Tensor:
    """Σ −log p(label): logits [positions, vocabulary], labels [positions] → scalar, fp32."""
    return functional.cross_entropy(logits.float(), labels, reduction="sum")


def log_sig(chosen: Tensor, rejected: Tensor, margin: Tensor | float = 0.0) -> Tensor:
    """−log σ(r_chosen − r_rejected − margin), per pair (Ouyang et al. 2022, eq. 1)."""
    return -functional.logsigmoid(chosen.float() - rejected.float() - margin)


def log_exp(chosen: Tensor, rejected: Tensor, margin: Tensor | float = 0.0) -> Tensor:
    """log(1 + exp(r_rejected − r_chosen + margin)), per pair (Bai et al. 2022). The same function as :func:`log_sig`."""
    return functional.softplus(rejected.float() - chosen.float() + margin)


def kl_estimate(logprobs: Tensor, reference: Tensor, kind: str = "k1") -> Tensor:
    """Per-token estimate of KL(policy ‖ reference) from samples of the policy (Schulman 2020).

    k1 = log π − log π_ref (unbiased, may be negative); k2 = ½ k1²; k3 = exp(−k1) − 1 + k1 (unbiased, never negative).
    """
    k1 = logprobs - reference
    if kind == "k1":
        return k1
    if kind == "k2":
        return 0.5 * k1**2
    if kind == "k3":
        return torch.expm1(-k1) + k1
    raise ValueError(f"unknown KL estimator {kind!r}")


def policy_loss(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, clip: float) -> tuple[Tensor, Tensor, Tensor]:
    """PPO's clipped surrogate, per token (Schulman et al. 2017, eq. 7, negated).

    :returns: loss, probability ratio, and whether the clipped side was taken; all of the inputs' shape.
    """
    ratio = (logprobs - old_logprobs).clamp(-20.0, 20.0).exp()
    free, clipped = -advantages * ratio, -advantages * ratio.clamp(1 - clip, 1 + clip)
    return torch.maximum(free, clipped), ratio, clipped > free


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
