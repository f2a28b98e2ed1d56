"""KTO: learning from single replies that somebody called good or bad (Ethayarajh et al. 2024)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from modelkit.context import longest_sequence
from trainers.data.dataset import Labelled, Prompt
from trainers.data.order import steps
from trainers.logprobs import Reference, of_reference, reply_logprob_sums
from trainers.loop import StepResult
from trainers.losses import preference
from trainers.modes import learning
from trainers.optimiser import Optimiser
from trainers.recipe import KtoStage
from trainers.sft import sample_replies
from trainers.strategies import Strategy, turns
from trainers.strategies.plain import Single

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def mismatched(rows: Sequence[Labelled], others: Sequence[Labelled] | None = None) -> list[Labelled]:
    """Each row's prompt with the reply of a row half the list away (not its own): what the KL to the reference is estimated from.

    The partner is fixed, so that the reference's log-probabilities can be computed in advance. Rows that all have one prompt take the
    replies of *others*.
    """
    givers = others if others and len({row.prompt for row in rows}) == 1 else rows
    partners = [givers[(i + max(1, len(givers) // 2)) % len(givers)] for i in range(len(rows))]
    return [
        Labelled(row.ids[: row.start] + partner.ids[partner.start :], row.start, row.desirable)
        for row, partner in zip(rows, partners, strict=True)
    ]


class KahnemanTversky:
    """Minimise the KTO loss of labelled replies, averaged over the replies of a step. Dropout stays off.

    The baseline z₀ is that of the whole step, not of a micro-batch, so accumulation changes nothing.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        reference: Reference,
        tokenizer: PreTrainedTokenizerBase,
        rows: Sequence[Labelled],
        held_out: Sequence[Labelled],
        probes: Sequence[Prompt],
        settings: KtoStage,
        seed: int,
        strategy: Strategy | None = None,
    ) -> None:
        self.name, self.settings, self.strategy = "kto", settings, strategy or Single()
        self.strategy.prepare(model)
        self.modules: dict[str, nn.Module] = {"model": model}
        self.optimisers = {"model": Optimiser([model], settings, strategy=self.strategy)}
        self._model, self._tokenizer, self._seed, self._probes = model.eval(), tokenizer, seed, probes
        self._context: int | None = settings.max_length or longest_sequence(model.config)
        self._training, self._held_out = (self._compared(*parts, reference) for parts in ((rows, held_out), (held_out, rows)))
        self._order: Iterator[list[int]] = iter(())

    def begin(self, step: int) -> None:
        weights = [row.weight for row in self._training.rows]
        self._order = steps(self._training.lengths, self.settings.tokens, self._seed, self.name, step, weights)

    def step(self, step: int) -> StepResult:
        chosen = next(self._order)
        with torch.no_grad():
            baseline = self._baseline(self._training, chosen)
        totals = _Totals()
        with learning(self._model, dropout=False):
            for batch, weight in turns(self.strategy, chosen, self._training.lengths, self.settings.micro_tokens):
                loss = totals.add(weight, *self._loss(self._training, batch, baseline))
                self.strategy.backward(weight * loss.sum(), self._model)
        update = self.optimisers["model"].step(divide_by=len(chosen))
        return StepResult(sum(self._training.lengths[i] for i in chosen), {**totals.means(self.strategy), "kl": baseline, **update}, chosen)

    def samples(self) -> list[dict[str, Any]]:
        with self.strategy.whole(self._model):
            replies = sample_replies(self._model, self._tokenizer, self._probes)
        return [{"prompt": prompt.text, "reply": reply} for prompt, reply in replies]

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Loss, mean implicit reward of good and bad replies, and their difference, on the held-out rows."""
        if not self._held_out.rows:
            return {}
        everything = range(len(self._held_out.rows))
        baseline = self._baseline(self._held_out, everything)
        totals = _Totals()
        for batch, weight in turns(self.strategy, everything, self._held_out.lengths, self.settings.micro_tokens):
            totals.add(weight, *self._loss(self._held_out, batch, baseline))
        return {f"eval_{name}": value for name, value in totals.means(self.strategy).items()}

    def _loss(self, data: _Rows, rows: Sequence[int], baseline: float) -> tuple[Tensor, Tensor, Tensor]:
        """Losses, implicit rewards β log π/π_ref and labels, [rows] each."""
        settings = self.settings
        ratio = self._ratio(data.rows, data.reference, rows)
        desirable = torch.tensor([data.rows[i].desirable for i in rows], device=ratio.device)
        weights = settings.desirable_weight, settings.undesirable_weight
        loss = preference.kto(ratio, desirable, ratio.new_tensor(baseline), settings.beta, weights)
        return loss, settings.beta * ratio.detach(), desirable

    def _baseline(self, data: _Rows, step: Sequence[int]) -> float:
        total = 0.0
        for batch, weight in turns(self.strategy, step, data.mismatched_lengths, self.settings.micro_tokens):
            total += weight * float(self._ratio(data.mismatched, data.mismatched_reference, batch).sum())
        return preference.kto_baseline(self.strategy.sum([total])[0], len(step))

    def _ratio(self, rows: Sequence[Labelled], reference: Tensor, indices: Sequence[int]) -> Tensor:
        sequences, starts = [rows[i].ids for i in indices], [rows[i].start for i in indices]
        logprobs = self.strategy.forward(self._model, reply_logprob_sums, sequences, starts)
        return logprobs - reference[list(indices)].to(logprobs.device)

    def _compared(self, rows: Sequence[Labelled], rest: Sequence[Labelled], reference: Reference) -> _Rows:
        others = [Labelled(row.ids[: self._context], row.start, row.desirable) for row in mismatched(rows, rest)]
        both = [*rows, *others]
        found = of_reference(reference, [row.ids for row in both], [row.start for row in both], self.settings, self.strategy)
        return _Rows(rows, others, found[: len(rows)], found[len(rows) :])


@dataclass(frozen=True)
class _Rows:
    """Labelled rows and their mismatched counterparts, with the reference's log-probabilities of both."""

    rows: Sequence[Labelled]
    mismatched: Sequence[Labelled]
    reference: Tensor
    mismatched_reference: Tensor

    @property
    def lengths(self) -> list[int]:
        return [len(row.ids) for row in self.rows]

    @property
    def mismatched_lengths(self) -> list[int]:
        return [len(row.ids) for row in self.mismatched]


class _Totals:
    """Sums over rows: the loss, and the implicit rewards of good and of bad replies apart."""

    def __init__(self) -> None:
        self._sums = [0.0] * 5

    def add(self, weight: float, loss: Tensor, rewards: Tensor, desirable: Tensor) -> Tensor:
        """Count a micro-batch; gives its losses back."""
        good = desirable.float()
        parts = [loss.detach(), rewards * good, good, rewards * (1 - good), 1 - good]
        self._sums = [total + weight * float(part.sum()) for total, part in zip(self._sums, parts, strict=True)]
        return loss

    def means(self, strategy: Strategy) -> dict[str, float]:
        """The numbers to log; a margin needs replies of both kinds."""
        loss, good, goods, bad, bads = strategy.sum(self._sums)
        found = {"loss": loss / (goods + bads)}
        if goods:
            found["reward_desirable"] = good / goods
        if bads:
            found["reward_undesirable"] = bad / bads
        return {**found, "margin": good / goods - bad / bads} if goods and bads else found
