"""Learning from preferences without a reward model.

``h`` is the policy's lead over the reference in log-odds of the better reply, one number per pair (:func:`lead`); β scales it.
Log-probabilities are sums over a reply's tokens; where a formula wants means, its arguments say so.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def lead(chosen: Tensor, rejected: Tensor, reference_chosen: Tensor, reference_rejected: Tensor) -> Tensor:
    """h = log π(y_w|x)/π_ref(y_w|x) − log π(y_l|x)/π_ref(y_l|x)."""
    return (chosen - reference_chosen) - (rejected - reference_rejected)


def sigmoid(h: Tensor, beta: float, smoothing: float = 0.0) -> Tensor:
    """DPO: −log σ(βh) (Rafailov et al. 2023, eq. 7). With ε = *smoothing* it is cDPO, for labels wrong with probability ε
    (Mitchell 2023, eq. 3): −(1 − ε) log σ(βh) − ε log σ(−βh)."""
    return -(1 - smoothing) * functional.logsigmoid(beta * h) - smoothing * functional.logsigmoid(-beta * h)


def robust(h: Tensor, beta: float, smoothing: float) -> Tensor:
    """rDPO: the estimate of DPO's loss that is unbiased when labels are flipped with probability ε < ½ (Chowdhury et al. 2024):

    (−(1 − ε) log σ(βh) + ε log σ(−βh)) / (1 − 2ε). May be negative.
    """
    right, flipped = -functional.logsigmoid(beta * h), -functional.logsigmoid(-beta * h)
    return ((1 - smoothing) * right - smoothing * flipped) / (1 - 2 * smoothing)


def ipo(h: Tensor, beta: float) -> Tensor:
    """IPO: (h − 1/(2β))², β being the paper's τ (Azar et al. 2024, eq. 17). Of sums, as in the paper; some libraries take means."""
    return (h - 1 / (2 * beta)) ** 2


def hinge(h: Tensor, beta: float) -> Tensor:
    """SLiC's hinge on DPO's logit: max(0, 1 − βh) (Zhao et al. 2023; on this logit: Liu et al. 2024)."""
    return torch.relu(1 - beta * h)


def simpo(chosen_mean: Tensor, rejected_mean: Tensor, beta: float, gamma: float) -> Tensor:
    """SimPO: −log σ(β·mean log π(y_w) − β·mean log π(y_l) − γ), no reference (Meng et al. 2024, eq. 6)."""
    return -functional.logsigmoid(beta * (chosen_mean - rejected_mean) - gamma)


def log_odds(mean_logprobs: Tensor) -> Tensor:
    """log p/(1 − p) of the per-token geometric mean probability p = exp(mean log π) (Hong et al. 2024, eq. 4)."""
    below_one = mean_logprobs.clamp(max=-1e-7)
    return below_one - torch.log(-torch.expm1(below_one))


def orpo(chosen_mean: Tensor, rejected_mean: Tensor, weight: float) -> Tensor:
    """ORPO: −mean log π(y_w) − λ log σ(log odds(y_w) − log odds(y_l)), λ = *weight*, no reference (Hong et al. 2024, eq. 6 and 7)."""
    return -chosen_mean - weight * functional.logsigmoid(log_odds(chosen_mean) - log_odds(rejected_mean))


def kto(ratio: Tensor, desirable: Tensor, baseline: Tensor, beta: float, weights: tuple[float, float] = (1.0, 1.0)) -> Tensor:
    """KTO on single replies (Ethayarajh et al. 2024, eq. 8): λ_D (1 − σ(β(r − z₀))) where *desirable*, else λ_U (1 − σ(β(z₀ − r))).

    :param ratio: r = log π(y|x) − log π_ref(y|x), [replies].
    :param baseline: z₀ ≥ 0, an estimate of KL(π ‖ π_ref) from replies to other prompts (:func:`kto_baseline`); no gradient flows there.
    :param weights: (λ_D, λ_U), which balance unequal numbers of good and bad replies.
    """
    gain = beta * (ratio - baseline.detach())
    return torch.where(desirable, weights[0] * torch.sigmoid(-gain), weights[1] * torch.sigmoid(gain))


def kto_baseline(mismatched_ratio_sum: float, count: float) -> float:
    """z₀ = max(0, mean of log π/π_ref over replies paired with other replies' prompts) (Ethayarajh et al. 2024, section 4.1)."""
    return max(0.0, mismatched_ratio_sum / count)
