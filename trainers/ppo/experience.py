"""What stays fixed while a policy is updated: replies, their log-probabilities, values, rewards, advantages and returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from modelkit.errors import UserError
from modelkit.reward import RewardReference
from trainers.losses import kl_estimate, masked_mean, scale_to_one, whiten
from trainers.ppo import gae
from trainers.ppo.rollout import Replies
from trainers.recipe import PpoStage


@dataclass(frozen=True)
class Evaluated:
    """Replies as the models see them: [replies, length] each but ``rewards``, the reward model's, [replies]."""

    replies: Replies
    old: Tensor
    reference: Tensor
    values: Tensor
    rewards: Tensor


@dataclass(frozen=True)
class Experience:
    """The buffer that several epochs of updates read. All tensors are [replies, length]."""

    replies: Replies
    old: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor


def scores(rewards: Tensor, stopped: Tensor, scale: RewardReference, settings: PpoStage) -> Tensor:
    """What a reply is worth, [replies]: its reward, measured in standard deviations of SFT's if so set, clipped, less the penalty for
    not having ended."""
    if settings.normalise_rewards:
        rewards = (rewards - scale.mean) / max(scale.sd, 1e-6)
    clipped = rewards.clamp(-settings.reward_clip, settings.reward_clip)
    return clipped - settings.missing_eos_penalty * (~stopped).float()


def estimate(found: Evaluated, worth: Tensor, kl_coef: float, settings: PpoStage) -> tuple[Experience, dict[str, float]]:
    """Advantages and returns of a rollout, and the numbers to log about it.

    Every rank holds the replies of all ranks, so whitening is over all of them.
    """
    mask = found.replies.mask
    kl = kl_estimate(found.old, found.reference, "k1") * mask
    rewards = gae.token_rewards(kl, mask, worth, kl_coef)
    if settings.whiten_rewards:
        rewards = scale_to_one(rewards, mask)
    advantages, returns = gae.advantages(rewards, found.values, mask, settings.gamma, settings.lam)
    if settings.whiten_advantages:
        advantages = whiten(advantages, mask)
    lengths = mask.sum(1)
    numbers = {
        "reward": float(found.rewards.mean()),
        "reward_sd": float(found.rewards.std()),
        "score": float(worth.mean()),
        "kl": float(kl.sum(1).mean()),
        "kl_k3": float((kl_estimate(found.old, found.reference, "k3") * mask).sum(1).mean()),
        "length": float(lengths.mean()),
        "eos_rate": float(found.replies.stopped.float().mean()),
        "explained_variance": float(1 - _variance(returns - found.values, mask) / _variance(returns, mask).clamp(min=1e-8)),
    }
    return Experience(found.replies, found.old, found.values, advantages, returns), numbers


def _variance(values: Tensor, mask: Tensor) -> Tensor:
    return masked_mean((values - masked_mean(values, mask)) ** 2, mask)


class Means:
    """Running means of per-token tensors and of plain numbers, over all ranks."""

    def __init__(self) -> None:
        self._sums: dict[str, list[float]] = {}

    def add(self, mask: Tensor, **tensors: Tensor) -> None:
        """Count tensors where *mask* is 1 (0 < a weight < 1 is possible)."""
        for name, tensor in tensors.items():
            self._put(name, float((tensor.detach().float() * mask).sum()), float(mask.sum()))

    def note(self, **numbers: float) -> None:
        """Count plain numbers, once each."""
        for name, number in numbers.items():
            self._put(name, number, 1.0)

    def means(self, total: Callable[[Sequence[float]], list[float]]) -> dict[str, float]:
        """The means; *total* sums a list of numbers over the ranks."""
        flat = total([number for pair in self._sums.values() for number in pair])
        return {name: flat[2 * i] / flat[2 * i + 1] for i, name in enumerate(self._sums)}

    def _put(self, name: str, total: float, weight: float) -> None:
        entry = self._sums.setdefault(name, [0.0, 0.0])
        entry[0] += total
        entry[1] += weight


def updates_of(replies: int, epochs: int, minibatches: int) -> int:
    """How many updates are made from a rollout of so many *replies*.

    :raises UserError: for more minibatches than replies.
    """
    if minibatches > replies:
        raise UserError(f"minibatches is {minibatches}, and a rollout has {replies} replies to put into them: set it to {replies} at most.")
    return epochs * minibatches


def minibatches(replies: int, count: int, seed: int) -> list[list[int]]:
    """All replies in a shuffled order, in *count* parts of (nearly) equal size."""
    shuffled = torch.randperm(replies, generator=torch.Generator().manual_seed(seed))
    return [part.tolist() for part in shuffled.tensor_split(count)]
