"""Losses and estimators as pure functions of tensors, named after their formulas. All take and return natural logarithms.

``mask`` is 1 where a token counts, 0 elsewhere; sums are normalised by the caller's count (usually the label tokens of a whole
optimizer step), so that accumulating micro-batches gives the gradient of the large batch exactly.
"""

from trainers.losses.kl import kl_estimate
from trainers.losses.ppo import masked_mean, policy_loss, scale_to_one, value_loss, whiten
from trainers.losses.reward import centring, log_exp, log_sig
from trainers.losses.sft import cross_entropy_sum

__all__ = [
    "centring",
    "cross_entropy_sum",
    "kl_estimate",
    "log_exp",
    "log_sig",
    "masked_mean",
    "policy_loss",
    "scale_to_one",
    "value_loss",
    "whiten",
]
