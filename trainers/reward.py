"""The reward model: a scalar head on the SFT model, trained on preference pairs in fp32."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from modelkit.reward import last_token_values
from trainers.data.dataset import Pair
from trainers.data.order import steps
from trainers.loop import StepResult
from trainers.losses import log_exp, log_sig
from trainers.optimiser import Optimiser
from trainers.recipe import RewardStage
from trainers.strategies import Strategy, turns
from trainers.strategies.plain import Single

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_LOSSES = {"log_sig": log_sig, "log_exp": log_exp}


class RewardModelling:
    """Minimise the pairwise loss of *pairs*, averaged over the pairs of a step."""

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
        self._pairs, self._held_out = pairs, held_out
        self._lengths = [len(pair.chosen) + len(pair.rejected) for pair in pairs]
        self._order: Iterator[list[int]] = iter(())

    def begin(self, step: int) -> None:
        self._order = steps(self._lengths, self.settings.tokens, self._seed, self.name, start=step)

    def step(self, step: int) -> StepResult:
        chosen = next(self._order)
        loss, right, margin = self._pass(self._pairs, chosen, self._lengths, learn=True)
        numbers = self.optimisers["model"].step(divide_by=len(chosen))
        tokens = sum(self._lengths[i] for i in chosen)
        return StepResult(tokens, {"loss": loss, "accuracy": right, "margin": margin, **numbers}, chosen)

    def samples(self) -> list[dict[str, Any]]:
        return []

    @torch.inference_mode()
    def evaluate(self) -> dict[str, float]:
        if not self._held_out:
            return {}
        lengths = [len(pair.chosen) + len(pair.rejected) for pair in self._held_out]
        loss, right, margin = self._pass(self._held_out, range(len(lengths)), lengths, learn=False)
        return {"eval_loss": loss, "eval_accuracy": right, "eval_margin": margin}

    def _pass(self, pairs: Sequence[Pair], rows: Sequence[int], lengths: Sequence[int], learn: bool) -> tuple[float, float, float]:
        """(loss, accuracy, margin), means over *rows* of *pairs*; with *learn* their gradients are added up as well."""
        total, right, margin = 0.0, 0.0, 0.0
        for batch, weight in turns(self.strategy, rows, lengths, self.settings.micro_tokens):
            better, worse = self.strategy.forward(self._model, _rewards, [pairs[i] for i in batch])
            loss = weight * self._loss(better, worse).sum()
            if learn:
                self.strategy.backward(loss, self._model)
            total += float(loss.detach())
            right += weight * float((better > worse).sum())
            margin += weight * float((better - worse).detach().sum())
        total, right, margin = self.strategy.sum([total, right, margin])
        return total / len(rows), right / len(rows), margin / len(rows)


def _rewards(model: PreTrainedModel, pairs: Sequence[Pair]) -> tuple[torch.Tensor, torch.Tensor]:
    """Rewards of the chosen and of the rejected sides, in one pass."""
    rewards = last_token_values(model, [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs])
    return rewards[: len(pairs)], rewards[len(pairs) :]


def from_language_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """A reward model with the language model's body and a new head drawn from N(0, 1/(hidden + 1)) (Stiennon et al. 2020)."""
    from transformers import AutoModelForSequenceClassification

    config = copy.deepcopy(model.config)
    config.num_labels = 1
    config.pad_token_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    reward = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
    reward.base_model.load_state_dict(model.base_model.state_dict())
    nn.init.normal_(reward.score.weight, std=(config.hidden_size + 1) ** -0.5)
    return reward
