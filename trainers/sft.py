"""Language modelling on labelled tokens: pretraining on plain text and supervised fine-tuning are the same stage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from modelkit.chat import stop_ids
from modelkit.generation.loop import generate
from modelkit.generation.sampling import Sampling
from modelkit.generation.stream import decode
from modelkit.scoring.batches import right_pad
from modelkit.scoring.logits import logits_at
from trainers.data.dataset import Example, Prompt
from trainers.data.order import staged
from trainers.loop import StepResult
from trainers.losses import cross_entropy_sum
from trainers.modes import learning
from trainers.optimiser import Optimiser
from trainers.recipe import LanguageStage
from trainers.strategies import Strategy, turns
from trainers.strategies.plain import Single

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class LanguageModelling:
    """Minimise the cross-entropy of the labelled tokens of *examples*, normalised by their number over the whole step."""

    def __init__(
        self,
        name: str,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        examples: Sequence[Example],
        held_out: Sequence[Example],
        probes: Sequence[Prompt],
        settings: LanguageStage,
        seed: int,
        strategy: Strategy | None = None,
    ) -> None:
        self.name, self.settings, self.strategy = name, settings, strategy or Single()
        self.modules: dict[str, nn.Module] = {"model": model}
        self.strategy.prepare(model)
        self.optimisers = {"model": Optimiser([model], settings, strategy=self.strategy)}
        self._model, self._tokenizer, self._seed = model, tokenizer, seed
        self._examples, self._held_out, self._probes = examples, held_out, probes
        self._lengths = [len(example.ids) for example in examples]
        self._order: Iterator[list[int]] = iter(())

    def begin(self, step: int) -> None:
        starts = [example.start for example in self._examples]
        weights = [example.weight for example in self._examples]
        self._order = staged(self._lengths, starts, self.settings.steps, self.settings.tokens, self._seed, self.name, step, weights)

    def step(self, step: int) -> StepResult:
        chosen = next(self._order)
        labels = sum(sum(self._examples[i].labelled) for i in chosen)
        mine = 0.0
        with learning(self._model):
            for batch, weight in turns(self.strategy, chosen, self._lengths, self.settings.micro_tokens):
                loss = weight * self.strategy.forward(self._model, example_loss_sum, [self._examples[i] for i in batch])
                self.strategy.backward(loss, self._model)
                mine += float(loss.detach())
        (total,) = self.strategy.sum([mine])
        numbers = self.optimisers["model"].step(divide_by=labels)
        return StepResult(sum(self._lengths[i] for i in chosen), {"loss": total / labels, **numbers}, chosen)

    def samples(self) -> list[dict[str, Any]]:
        with self.strategy.whole(self._model):
            replies = sample_replies(self._model, self._tokenizer, self._probes)
        return [{"prompt": prompt.text, "reply": reply} for prompt, reply in replies]

    @torch.inference_mode()
    def evaluate(self) -> dict[str, float]:
        if not self._held_out:
            return {}
        lengths = [len(example.ids) for example in self._held_out]
        mine = sum(
            weight * float(self.strategy.forward(self._model, example_loss_sum, [self._held_out[i] for i in batch]))
            for batch, weight in turns(self.strategy, range(len(lengths)), lengths, self.settings.micro_tokens)
        )
        (total,) = self.strategy.sum([mine])
        return {"eval_loss": total / sum(sum(example.labelled) for example in self._held_out)}


def example_loss_sum(model: PreTrainedModel, examples: Sequence[Example]) -> torch.Tensor:
    """Σ cross-entropy over the labelled tokens of a batch (scalar). The output layer sees those positions only."""
    ids = right_pad([example.ids for example in examples], model.device)
    labelled = right_pad([[int(flag) for flag in example.labelled] for example in examples])
    rows, columns = labelled.nonzero(as_tuple=True)
    return cross_entropy_sum(logits_at(model, ids, rows, columns - 1), ids[rows, columns])


def sample_replies(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, probes: Sequence[Prompt], max_tokens: int = 40
) -> list[tuple[Prompt, str]]:
    """The model's greedy reply to each probe."""
    if not probes:
        return []
    replies = generate(model, [probe.ids for probe in probes], Sampling(max_tokens=max_tokens, temperature=0), stop_ids(tokenizer, model))
    return [(probe, decode(tokenizer, reply[0].ids)) for probe, reply in zip(probes, replies, strict=True)]
