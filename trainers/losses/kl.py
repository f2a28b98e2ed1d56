"""How far a policy has gone from its reference, estimated from the policy's own samples."""

from __future__ import annotations

import torch
from torch import Tensor


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
