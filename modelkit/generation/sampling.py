"""How the next token is chosen: one row of settings, applied to logits of shape [rows, vocabulary]."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from modelkit.errors import UserError


@dataclass(frozen=True)
class Sampling:
    """Settings of one request. ``temperature`` 0 is greedy; ``top_k`` 0 and ``top_p`` 1 switch those filters off.

    ``seed`` decides the random numbers of each sample: sample *i* of a request draws from ``seed + i``, so a text does not
    depend on what else is in the batch.
    """

    max_tokens: int = 128
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise UserError(f"max_tokens is {self.max_tokens}: at least 1 is needed.")
        if not self.temperature >= 0:
            raise UserError(f"temperature is {self.temperature}: 0 (greedy) or above is needed.")
        if self.top_k < 0 or not 0 < self.top_p <= 1:
            raise UserError("top_k must be 0 or above, and top_p above 0 and at most 1.")


def uniforms(seed: int, count: int) -> torch.Tensor:
    """*count* uniform numbers in [0, 1) for one sample, shape [count]."""
    return torch.rand(count, generator=torch.Generator().manual_seed(seed % (1 << 63)))


def choose(logits: torch.Tensor, uniform: torch.Tensor, sampling: Sampling) -> tuple[torch.Tensor, torch.Tensor]:
    """Choose one token per row by inverting the cumulative distribution at *uniform*.

    :param logits: [rows, vocabulary], any dtype.
    :param uniform: [rows], in [0, 1); unused when greedy.
    :returns: tokens [rows] and their natural-log probabilities [rows] under the temperature-scaled distribution, before
        top-k and top-p (which only restrict what may be chosen).
    """
    logits = logits.float()
    if sampling.temperature == 0:
        logprobs = logits.log_softmax(-1)
        tokens = logits.argmax(-1)
        return tokens, logprobs.gather(-1, tokens[:, None])[:, 0]
    logprobs = (logits / sampling.temperature).log_softmax(-1)
    probabilities = logprobs.exp()
    if sampling.top_k and sampling.top_k < logits.shape[-1]:
        kth = probabilities.topk(sampling.top_k, dim=-1).values[:, -1:]
        probabilities = probabilities.masked_fill(probabilities < kth, 0.0)
    if sampling.top_p < 1:
        ranked, order = probabilities.sort(dim=-1, descending=True)
        before = ranked.cumsum(-1) - ranked
        ranked = ranked.masked_fill(before >= sampling.top_p * ranked.sum(-1, keepdim=True), 0.0)
        probabilities = torch.zeros_like(probabilities).scatter(-1, order, ranked)
    cumulative = probabilities.double().cumsum(-1)
    target = uniform.to(cumulative)[:, None] * cumulative[:, -1:]
    tokens = (cumulative <= target).sum(-1).clamp_(max=logits.shape[-1] - 1)
    return tokens, logprobs.gather(-1, tokens[:, None])[:, 0]
