"""Preference optimisation on pairs: DPO and its relatives, the reference's log-probabilities computed once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from trainers.data.dataset import Pair, Prompt
from trainers.data.order import steps
from trainers.logprobs import Reference, of_reference, reply_logprob_sums
from trainers.loop import StepResult
from trainers.losses import preference
from trainers.modes import learning
from trainers.optimiser import Optimiser
from trainers.recipe import DpoStage
from trainers.sft import sample_replies
from trainers.strategies import Strategy, turns
from trainers.strategies.plain import Single

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_NAMES = ("loss", "accuracy", "margin", "reward_chosen", "reward_rejected", "logp_chosen", "logp_rejected")


@dataclass(frozen=True)
class PairLogprobs:
    """Sums over the replies' tokens under policy and reference (zeros where the loss needs none), and their lengths; all [pairs]."""

    chosen: Tensor
    rejected: Tensor
    reference_chosen: Tensor
    reference_rejected: Tensor
    chosen_tokens: Tensor
    rejected_tokens: Tensor


class PreferenceOptimisation:
    """Minimise the loss that *settings* name over *pairs*, averaged over the pairs of a step. Dropout stays off.

    A reply's implicit reward is β log π/π_ref; for losses without a reference it is β times its mean log-probability.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        reference: Reference | None,
        tokenizer: PreTrainedTokenizerBase,
        pairs: Sequence[Pair],
        held_out: Sequence[Pair],
        probes: Sequence[Prompt],
        settings: DpoStage,
        seed: int,
        strategy: Strategy | None = None,
    ) -> None:
        self.name, self.settings, self.strategy = "dpo", settings, strategy or Single()
        self.strategy.prepare(model)
        self.modules: dict[str, nn.Module] = {"model": model}
        self.optimisers = {"model": Optimiser([model], settings, strategy=self.strategy)}
        self._model, self._tokenizer, self._seed = model.eval(), tokenizer, seed
        self._training, self._held_out, self._probes = _Pairs.of(pairs), _Pairs.of(held_out), probes
        self._order: Iterator[list[int]] = iter(())
        if settings.needs_reference:
            assert reference is not None, f"{settings.loss} compares with a reference"
            for part in (self._training, self._held_out):
                part.compare_with(reference, settings, self.strategy)

    def begin(self, step: int) -> None:
        weights = [pair.weight for pair in self._training.pairs]
        self._order = steps(self._training.lengths, self.settings.tokens, self._seed, self.name, step, weights)

    def step(self, step: int) -> StepResult:
        chosen = next(self._order)
        sums = [0.0] * len(_NAMES)
        with learning(self._model, dropout=False):
            for batch, weight in turns(self.strategy, chosen, self._training.lengths, self.settings.micro_tokens):
                loss, numbers = self._loss(self._training, batch)
                self.strategy.backward(weight * loss.sum(), self._model)
                sums = [total + weight * number for total, number in zip(sums, numbers, strict=True)]
        update = self.optimisers["model"].step(divide_by=len(chosen))
        means = {name: total / len(chosen) for name, total in zip(_NAMES, self.strategy.sum(sums), strict=True)}
        return StepResult(sum(self._training.lengths[i] for i in chosen), {**means, **update}, chosen)

    def samples(self) -> list[dict[str, Any]]:
        with self.strategy.whole(self._model):
            replies = sample_replies(self._model, self._tokenizer, self._probes)
        return [{"prompt": prompt.text, "reply": reply} for prompt, reply in replies]

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """The same numbers on the held-out pairs, as ``eval_…``."""
        count = len(self._held_out.pairs)
        if not count:
            return {}
        sums = [0.0] * len(_NAMES)
        for batch, weight in turns(self.strategy, range(count), self._held_out.lengths, self.settings.micro_tokens):
            _, numbers = self._loss(self._held_out, batch)
            sums = [total + weight * number for total, number in zip(sums, numbers, strict=True)]
        return {f"eval_{name}": total / count for name, total in zip(_NAMES, self.strategy.sum(sums), strict=True)}

    def _loss(self, data: _Pairs, rows: Sequence[int]) -> tuple[Tensor, list[float]]:
        """Losses [rows], and the sums over the rows of what ``_NAMES`` says."""
        batch = [data.pairs[i] for i in rows]
        sequences = [pair.chosen for pair in batch] + [pair.rejected for pair in batch]
        starts = [pair.starts[0] for pair in batch] + [pair.starts[1] for pair in batch]
        sums = self.strategy.forward(self._model, reply_logprob_sums, sequences, starts)
        lengths = torch.tensor([len(ids) - start for ids, start in zip(sequences, starts, strict=True)], device=sums.device)
        reference = data.reference[:, list(rows)].to(sums.device)
        count = len(batch)
        logprobs = PairLogprobs(sums[:count], sums[count:], reference[0], reference[1], lengths[:count], lengths[count:])
        loss = pair_loss(logprobs, self.settings)
        better, worse = (reward.detach() for reward in implicit_rewards(logprobs, self.settings))
        numbers = [loss, better > worse, better - worse, better, worse, logprobs.chosen, logprobs.rejected]
        return loss, [float(number.detach().sum()) for number in numbers]


def pair_loss(logprobs: PairLogprobs, settings: DpoStage) -> Tensor:
    """The loss of each pair, [pairs]."""
    means = logprobs.chosen / logprobs.chosen_tokens, logprobs.rejected / logprobs.rejected_tokens
    h = preference.lead(logprobs.chosen, logprobs.rejected, logprobs.reference_chosen, logprobs.reference_rejected)
    match settings.loss:
        case "sigmoid" | "cdpo":
            loss = preference.sigmoid(h, settings.beta, settings.label_smoothing)
        case "robust":
            loss = preference.robust(h, settings.beta, settings.label_smoothing)
        case "ipo":
            loss = preference.ipo(h, settings.beta)
        case "hinge":
            loss = preference.hinge(h, settings.beta)
        case "simpo":
            loss = preference.simpo(*means, settings.beta, settings.gamma)
        case "orpo":
            loss = preference.orpo(*means, settings.beta)
    return loss - settings.nll_coef * means[0] if settings.nll_coef else loss


def implicit_rewards(logprobs: PairLogprobs, settings: DpoStage) -> tuple[Tensor, Tensor]:
    """What the policy behaves as if it were rewarded with for the chosen and the rejected reply, [pairs] each."""
    if settings.needs_reference:
        return settings.beta * (logprobs.chosen - logprobs.reference_chosen), settings.beta * (
            logprobs.rejected - logprobs.reference_rejected
        )
    return settings.beta * logprobs.chosen / logprobs.chosen_tokens, settings.beta * logprobs.rejected / logprobs.rejected_tokens


@dataclass
class _Pairs:
    """Pairs with their costs in tokens and, once compared, the reference's log-probabilities [2, pairs] (chosen, rejected)."""

    pairs: Sequence[Pair]
    lengths: list[int]
    reference: Tensor

    @classmethod
    def of(cls, pairs: Sequence[Pair]) -> _Pairs:
        return cls(pairs, [len(pair.chosen) + len(pair.rejected) for pair in pairs], torch.zeros(2, len(pairs)))

    def compare_with(self, reference: Reference, settings: DpoStage, strategy: Strategy) -> None:
        sequences = [pair.chosen for pair in self.pairs] + [pair.rejected for pair in self.pairs]
        starts = [pair.starts[0] for pair in self.pairs] + [pair.starts[1] for pair in self.pairs]
        self.reference = of_reference(reference, sequences, starts, settings, strategy).view(2, -1)
