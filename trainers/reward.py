"""The reward model: a scalar head on the SFT model, trained on preference pairs in fp32."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from modelkit.reward import grouped_last_token_values
from trainers.data.dataset import Pair
from trainers.data.order import hold_out_whole, steps
from trainers.loop import StepResult
from trainers.losses import centring, log_exp, log_sig
from trainers.modes import learning
from trainers.optimiser import Optimiser
from trainers.recipe import RewardStage
from trainers.strategies import Strategy, turns
from trainers.strategies.plain import Single

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_LOSSES = {"log_sig": log_sig, "log_exp": log_exp}


@dataclass(frozen=True)
class Ranking:
    """Answers to one prompt (whole conversations), and which of them is better than which, by what margin.

    A pair is a ranking with two answers and one comparison (0, 1).
    """

    answers: list[list[int]]
    comparisons: list[tuple[int, int]]
    margins: list[float]
    weight: float = 1.0
    place: str = ""

    @property
    def tokens(self) -> int:
        """Tokens of all answers, each counted once."""
        return sum(len(answer) for answer in self.answers)


def rankings(pairs: Sequence[Pair]) -> list[Ranking]:
    """Pairs of one ranked list joined, so that each answer is read once; all others stay alone. In order of first appearance."""
    groups: dict[str | int, list[Pair]] = {}
    for i, pair in enumerate(pairs):
        groups.setdefault(i if pair.ranking is None else pair.ranking, []).append(pair)
    found = []
    for group in groups.values():
        places: dict[tuple[int, ...], int] = {}
        comparisons = [
            (places.setdefault(tuple(pair.chosen), len(places)), places.setdefault(tuple(pair.rejected), len(places))) for pair in group
        ]
        margins, first = [pair.margin for pair in group], group[0]
        found.append(Ranking([list(answer) for answer in places], comparisons, margins, first.weight, first.place))
    return found


def hold_out_pairs(pairs: Sequence[Pair], share: float, seed: int, purpose: str) -> tuple[list[Pair], list[Pair]]:
    """(training, held-out) pairs; those of one ranking stay together."""
    return hold_out_whole(pairs, [i if pair.ranking is None else pair.ranking for i, pair in enumerate(pairs)], share, seed, purpose)


class RewardModelling:
    """Minimise the pairwise loss, averaged over the comparisons of a ranking and then over the rankings of a step.

    A ranking of k answers takes k passes, not k (k − 1) (Ouyang et al. 2022, section 3.5).
    """

    def __init__(
        self,
        model: PreTrainedModel,
        pairs: Sequence[Pair],
        held_out: Sequence[Pair],
        settings: RewardStage,
        seed: int,
        strategy: Strategy | None = None,
    ) -> None:
        self.name, self.settings, self.strategy = "rm", settings, strategy or Single()
        self.modules: dict[str, nn.Module] = {"model": model}
        self.strategy.prepare(model)
        self.optimisers = {"model": Optimiser([model], settings, strategy=self.strategy)}
        self._model, self._seed, self._loss = model, seed, _LOSSES[settings.loss]
        self.training, self._held_out = rankings(pairs), rankings(held_out)
        self._lengths = [ranking.tokens for ranking in self.training]
        self._order: Iterator[list[int]] = iter(())

    def begin(self, step: int) -> None:
        weights = [ranking.weight for ranking in self.training]
        self._order = steps(self._lengths, self.settings.tokens, self._seed, self.name, step, weights)

    def step(self, step: int) -> StepResult:
        chosen = next(self._order)
        with learning(self._model):
            loss, right, margin = self._pass(self.training, chosen, self._lengths, learn=True)
        numbers = self.optimisers["model"].step(divide_by=len(chosen))
        tokens = sum(self._lengths[i] for i in chosen)
        return StepResult(tokens, {"loss": loss, "accuracy": right, "margin": margin, **numbers}, chosen)

    def samples(self) -> list[dict[str, Any]]:
        return []

    @torch.inference_mode()
    def evaluate(self) -> dict[str, float]:
        """Loss, share of comparisons ranked right, and mean difference of rewards on the held-out pairs."""
        if not self._held_out:
            return {}
        lengths = [ranking.tokens for ranking in self._held_out]
        loss, right, margin = self._pass(self._held_out, range(len(lengths)), lengths, learn=False)
        return {"eval_loss": loss, "eval_accuracy": right, "eval_margin": margin}

    def _pass(self, data: Sequence[Ranking], rows: Sequence[int], lengths: Sequence[int], learn: bool) -> tuple[float, float, float]:
        """(loss, accuracy, margin), means over *rows* of *data*; with *learn* their gradients are added up as well."""
        total, right, margin = 0.0, 0.0, 0.0
        for batch, weight in turns(self.strategy, rows, lengths, self.settings.micro_tokens):
            compared = [data[i] for i in batch]
            better, worse = self.strategy.forward(self._model, _rewards, compared)
            margins = better.new_tensor([margin for ranking in compared for margin in ranking.margins])
            shares = better.new_tensor([1 / len(ranking.comparisons) for ranking in compared for _ in ranking.comparisons])
            losses = self._loss(better, worse, margins)
            if self.settings.centre:
                losses = losses + self.settings.centre * centring(better, worse)
            loss = weight * (shares * losses).sum()
            if learn:
                self.strategy.backward(loss, self._model)
            total += float(loss.detach())
            right += weight * float((shares * (better > worse)).sum())
            margin += weight * float((shares * (better - worse)).detach().sum())
        total, right, margin = self.strategy.sum([total, right, margin])
        return total / len(rows), right / len(rows), margin / len(rows)


def _rewards(model: PreTrainedModel, compared: Sequence[Ranking]) -> tuple[torch.Tensor, torch.Tensor]:
    """Rewards of the better and the worse side of every comparison, [comparisons] each, in one pass over all answers."""
    rewards = grouped_last_token_values(model, [ranking.answers for ranking in compared])
    starts = accumulate((len(ranking.answers) for ranking in compared), initial=0)
    sides = [(start + one, start + other) for start, ranking in zip(starts, compared, strict=False) for one, other in ranking.comparisons]
    return rewards[[one for one, _ in sides]], rewards[[other for _, other in sides]]


def from_language_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """A reward model with the language model's body and a new head drawn from N(0, 1/(hidden + 1)) (Stiennon et al. 2020)."""
    from transformers import AutoModelForSequenceClassification

    config = copy.deepcopy(model.config)
    config.num_labels = 1
    config.pad_token_id = tokenizer.pad_token_id
    reward = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
    reward.base_model.load_state_dict(model.base_model.state_dict())
    nn.init.normal_(reward.score.weight, std=(config.hidden_size + 1) ** -0.5)
    return reward
