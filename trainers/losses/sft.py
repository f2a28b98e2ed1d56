"""Language modelling."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def cross_entropy_sum(logits: Tensor, labels: Tensor) -> Tensor:
    """Σ −log p(label): logits [positions, vocabulary], labels [positions] → scalar, fp32."""
    return functional.cross_entropy(logits.float(), labels, reduction="sum")
