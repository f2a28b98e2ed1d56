"""How the next token is chosen: settings of each row, applied to logits of shape [rows, vocabulary]."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from modelkit.errors import UserError

_GREEDY_BELOW = 1e-4
"""Dividing logits by less would leave the likeliest token alone, or overflow."""
_RANKED = 128
"""How many of the likeliest tokens are sorted at first; a nucleus rarely holds more, and sorting a vocabulary is dear."""
_MOST_K, _LEAST_P = 1 << 31, 1e-6
"""A top-k larger than any vocabulary, and a top-p that leaves the likeliest token alone: beyond these, tensors would overflow."""


@dataclass(frozen=True)
class Sampling:
    """Settings of one request. ``temperature`` below 1e-4 is greedy; ``top_k`` 0, ``top_p`` 1, ``min_p`` 0 and
    ``repetition_penalty`` 1 switch those off.

    ``seed`` decides the random numbers of each sample: sample *i* of a request draws from ``seed + i``, so a text does not
    depend on what else is in the batch. ``min_p`` cuts tokens less likely than that share of the likeliest one's probability
    (Nguyen et al., arXiv:2407.01082); ``repetition_penalty`` is that of CTRL (Keskar et al., arXiv:1909.05858, section 4.1), over
    prompt and reply.
    """

    max_tokens: int = 128
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise UserError(f"max_tokens is {self.max_tokens}: at least 1 is needed.")
        if not 0 <= self.temperature <= 100:
            raise UserError(f"temperature is {self.temperature}: a number from 0 (greedy) to 100 is needed.")
        if self.top_k < 0 or not 0 < self.top_p <= 1:
            raise UserError("top_k must be 0 or above, and top_p above 0 and at most 1.")
        if not 0 <= self.min_p < 1:
            raise UserError(f"min_p is {self.min_p}: a share of at least 0 and below 1 is needed.")
        if not 0.01 <= self.repetition_penalty <= 100:
            raise UserError(f"repetition_penalty is {self.repetition_penalty}: a number from 0.01 to 100 is needed, 1 for none.")

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is taken each time."""
        return self.temperature < _GREEDY_BELOW


def uniform(seed: int, counter: int) -> float:
    """The *counter*-th uniform number in [0, 1) of *seed*: a function of the two, with no generator to carry along.

    The finaliser of SplitMix64 (Steele, Lea & Flood, OOPSLA 2014), applied to the seed and then to seed and counter.
    """
    return (_mix(_mix(seed + _GAMMA) + (counter + 1) * _GAMMA) >> 11) * 2.0**-53


_GAMMA, _WORD = 0x9E3779B97F4A7C15, (1 << 64) - 1


def _mix(word: int) -> int:
    word &= _WORD
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 & _WORD
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB & _WORD
    return word ^ (word >> 31)


class Chooser:
    """The settings of all rows of a batch as tensors. It is made anew only when the rows change."""

    def __init__(self, rows: Sequence[Sampling], device: torch.device | str = "cpu") -> None:
        self.random = not all(row.greedy for row in rows)
        self._mixed = self.random and any(row.greedy for row in rows)
        self._plain = all((row.greedy or row.temperature == 1) and row.repetition_penalty == 1 for row in rows)
        self._temperature = torch.tensor([1.0 if row.greedy else row.temperature for row in rows], device=device)[:, None]
        self._greedy = torch.tensor([row.greedy for row in rows], device=device)
        self._penalised = [i for i, row in enumerate(rows) if row.repetition_penalty != 1]
        self._penalty = torch.tensor([rows[i].repetition_penalty for i in self._penalised], device=device)[:, None]
        cut = [i for i, row in enumerate(rows) if not row.greedy and (row.top_k or row.top_p < 1 or row.min_p)]
        self._cut = torch.tensor(cut, dtype=torch.long, device=device)
        self._filters = _Filters([rows[i] for i in cut], device) if cut else None

    def choose(self, logits: Tensor, uniforms: Sequence[float], seen: Sequence[Tensor | None] = ()) -> tuple[Tensor, Tensor]:
        """Choose one token per row by inverting the cumulative distribution at its uniform number.

        :param logits: [rows, vocabulary], any dtype.
        :param uniforms: one number in [0, 1) per row; unused in greedy rows.
        :param seen: for rows with a repetition penalty, a bool tensor [vocabulary]: which tokens have occurred.
        :returns: tokens [rows] and their natural-log probabilities [rows] under the model's own distribution: at temperature 1,
            before penalties and filters.
        """
        logits = logits.float()
        adjusted = self._penalise(logits, seen) if self._penalised else logits
        norm = logits.logsumexp(-1, keepdim=True)
        if not self.random:
            tokens = adjusted.argmax(-1)
        elif self._plain:
            tokens = self._sample(logits, (logits - norm).exp_(), uniforms)
        else:
            tokens = self._sample(adjusted, (adjusted / self._temperature).softmax(-1), uniforms)
        return tokens, (logits.gather(-1, tokens[:, None]) - norm)[:, 0]

    def _penalise(self, logits: Tensor, seen: Sequence[Tensor | None]) -> Tensor:
        rows = logits[self._penalised]
        occurred = torch.stack([mask for i in self._penalised if (mask := seen[i]) is not None])
        adjusted = logits.clone()
        adjusted[self._penalised] = torch.where(occurred, torch.where(rows < 0, rows * self._penalty, rows / self._penalty), rows)
        return adjusted

    def _sample(self, logits: Tensor, probabilities: Tensor, uniforms: Sequence[float]) -> Tensor:
        if self._filters is not None:
            rows = probabilities if len(self._cut) == len(probabilities) else probabilities[self._cut]
            kept = rows.masked_fill(rows < self._filters.cutoff(rows), 0.0)
            probabilities = kept if rows is probabilities else probabilities.index_copy(0, self._cut, kept)
        cumulative = probabilities.cumsum(-1, dtype=torch.float64)
        target = torch.tensor(uniforms, dtype=torch.float64, device=logits.device)[:, None] * cumulative[:, -1:]
        # the first token at which the cumulative probability exceeds the target has a probability above zero
        tokens = torch.searchsorted(cumulative, target, right=True)[:, 0].clamp_(max=logits.shape[-1] - 1)
        return torch.where(self._greedy, logits.argmax(-1), tokens) if self._mixed else tokens


class _Filters:
    """top-k, then top-p among what it left, and min-p: for each row the least probability that may be chosen."""

    def __init__(self, rows: Sequence[Sampling], device: torch.device | str) -> None:
        self._most = max(row.top_k for row in rows)
        self._k = torch.tensor([min(row.top_k, _MOST_K) for row in rows], device=device)[:, None]
        self._p = torch.tensor([max(row.top_p, _LEAST_P) for row in rows], device=device)[:, None]
        self._min = torch.tensor([row.min_p for row in rows], device=device)[:, None]

    def cutoff(self, probabilities: Tensor) -> Tensor:
        """[rows, 1]. Tokens as likely as the last one let in are let in too, so that no order among equals matters."""
        size = min(probabilities.shape[-1], max(_RANKED, self._most))
        ranked = probabilities.topk(size, dim=-1).values
        nucleus = self._nucleus(probabilities, ranked, self._k, self._p)
        least = ranked.masked_fill(~nucleus, float("inf")).amin(-1, keepdim=True)
        wide = (nucleus[:, -1:] & (self._k == 0) & (self._p < 1))[:, 0].nonzero()[:, 0]
        if size < probabilities.shape[-1] and len(wide):
            rows = probabilities[wide]
            whole = rows.sort(dim=-1, descending=True).values
            inside = self._nucleus(rows, whole, self._k[wide], self._p[wide])
            least[wide] = whole.masked_fill(~inside, float("inf")).amin(-1, keepdim=True)
        return torch.maximum(least.masked_fill((self._p >= 1) & (self._k == 0), 0.0), self._min * ranked[:, :1])

    @staticmethod
    def _nucleus(probabilities: Tensor, ranked: Tensor, k: Tensor, p: Tensor) -> Tensor:
        """Which of the *ranked* probabilities top-k and top-p let in, as far as those reach."""
        among = (torch.arange(ranked.shape[-1], device=ranked.device) < k) | (k == 0)
        total = torch.where(k > 0, (ranked * among).sum(-1, keepdim=True), probabilities.sum(-1, keepdim=True))
        return among & ((p >= 1) | (ranked.cumsum(-1) - ranked < p * total))


def choose(logits: Tensor, uniforms: Sequence[float], sampling: Sampling) -> tuple[Tensor, Tensor]:
    """:meth:`Chooser.choose` with the same settings for every row."""
    return Chooser([sampling] * len(logits), logits.device).choose(logits, uniforms)
