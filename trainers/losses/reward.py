"""Reward modelling: which of two answers is better (Bradley & Terry 1952)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def log_sig(chosen: Tensor, rejected: Tensor, margin: Tensor | float = 0.0) -> Tensor:
    """−log σ(r_chosen − r_rejected − margin), per pair (Ouyang et al. 2022, eq. 1; the margin: Touvron et al. 2023, eq. 2)."""
    return -functional.logsigmoid(chosen.float() - rejected.float() - margin)


def log_exp(chosen: Tensor, rejected: Tensor, margin: Tensor | float = 0.0) -> Tensor:
    """log(1 + exp(r_rejected − r_chosen + margin)), per pair (Bai et al. 2022). The same function as :func:`log_sig`."""
    return functional.softplus(rejected.float() - chosen.float() + margin)


def centring(chosen: Tensor, rejected: Tensor) -> Tensor:
    """(r_chosen + r_rejected)², per pair: pulls rewards towards mean zero, which pairs alone leave open (Eisenstein et al. 2023)."""
    return (chosen.float() + rejected.float()) ** 2
