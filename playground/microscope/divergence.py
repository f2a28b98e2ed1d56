"""How far one model's next-token distributions lie from another's, position by position. All in nats."""

from __future__ import annotations

import torch
from torch import Tensor


def exact_kl(before: Tensor, after: Tensor) -> Tensor:
    """KL(after ‖ before) = Σ p_after (ln p_after − ln p_before) over the whole vocabulary at each position, [positions].

    :param before, after: natural-log probabilities, [positions, vocabulary].
    """
    return (after.exp() * (after - before)).sum(-1)


def likeliest(before: Tensor, after: Tensor, tokens: Tensor, most: int) -> list[list[int]]:
    """At each position the *most* likeliest tokens of either model and the one that was written, those likeliest under *after* first."""
    most = min(most, after.shape[1])
    found = torch.cat([before.topk(most).indices, after.topk(most).indices, tokens[:, None]], dim=1)
    return [sorted(set(row.tolist()), key=lambda token: -float(after[place, token])) for place, row in enumerate(found)]
