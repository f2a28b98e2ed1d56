"""The reward model: a scalar head on the SFT model, trained on preference pairs in fp32."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from modelkit.reward import last_token_values
from trainers.data.dataset import Pair
from trainers.data.order import microbatches, steps
from trainers.loop import StepResult
from trainers.losses import log_exp, log_sig
from trainers.optimiser import Optimiser
from trainers.recipe import RewardStage

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_LOSSES = {"log_sig": log_sig, "log_exp": log_exp}


class RewardModelling:
    """Minimise the pairwise loss of *pairs*, averaged over the pairs of a step."""

    def __init__(self, model: PreTrainedModel, pairs: Sequence[Pair], held_out: Sequence[Pair], settings: RewardStage, seed: int) -> None:
        self.name, self.settings = "rm", settings
        self.modules: dict[str, nn.Module] = {"model": model}
        self.optimisers = {"model": Optimiser([model], settings)}
        self._model, self._seed, self._loss = model, seed, _LOSSES[settings.loss]
        self._pairs, self._held_out = pairs, held_out
        self._lengths = [len(pair.chosen) + len(pair.rejected) for pair in pairs]
        self._order: Iterator[list[int]] = iter(())

    def begin(self, step: int) -> None:
        self._order = steps(self._lengths, self.settings.tokens, self._seed, self.name, start=step)

    def step(self, step: int) -> StepResult:
        chosen = next(self._order)
        total, right, margin = 0.0, 0.0, 0.0
        for batch in microbatches(chosen, self._lengths, self.settings.micro_tokens):
            better, worse = self._rewards([self._pairs[i] for i in batch])
            loss = self._loss(better, worse).sum()
            loss.backward()
            total += float(loss.detach())
            right += float((better > worse).sum())
            margin += float((better - worse).detach().sum())
        numbers = self.optimisers["model"].step(divide_by=len(chosen))
        count = len(chosen)
        return StepResult(
            sum(self._lengths[i] for i in chosen), {"loss": total / count, "accuracy": right / count, "margin": margin / count, **numbers}
        )

    def samples(self) -> list[dict[str, Any]]:
        return []

    @torch.inference_mode()
    def evaluate(self) -> dict[str, float]:
        if not self._held_out:
            return {}
        lengths = [len(pair.chosen) + len(pair.rejected) for pair in self._held_out]
        total, right, margin = 0.0, 0.0, 0.0
        for batch in microbatches(range(len(lengths)), lengths, self.settings.micro_tokens):
            better, worse = self._rewards([self._held_out[i] for i in batch])
            total += float(self._loss(better, worse).sum())
            right += float((better > worse).sum())
            margin += float((better - worse).sum())
        count = len(lengths)
        return {"eval_loss": total / count, "eval_accuracy": right / count, "eval_margin": margin / count}

    def _rewards(self, pairs: Sequence[Pair]) -> tuple[torch.Tensor, torch.Tensor]:
        rewards = last_token_values(self._model, [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs])
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
