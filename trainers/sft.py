"""Language modelling on labelled tokens: pretraining on plain text and supervised fine-tuning are the same stage."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from modelkit.chat import stop_ids
from modelkit.errors import UserError
from modelkit.generation.loop import generate
from modelkit.generation.sampling import Sampling
from modelkit.generation.stream import decode
from modelkit.scoring.batches import right_pad
from modelkit.scoring.logits import logits_at
from trainers.data.dataset import Example, Prompt
from trainers.data.order import microbatches, staged
from trainers.data.packing import best_fit_decreasing
from trainers.loop import StepResult
from trainers.losses import cross_entropy_sum
from trainers.modes import learning
from trainers.optimiser import Optimiser
from trainers.recipe import LanguageStage
from trainers.seeds import derive
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
        if settings.packing:
            check_packing(model)
        self.strategy.prepare(model)
        self.optimisers = {"model": Optimiser([model], settings, strategy=self.strategy)}
        self._model, self._tokenizer, self._seed = model, tokenizer, seed
        self._examples, self._held_out, self._probes = examples, held_out, probes
        self._lengths = [len(example.ids) for example in examples]
        self._split: Callable[[Sequence[int], Sequence[int], int], Iterable[list[int]]] = (
            packed_batches if settings.packing else microbatches
        )
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
            for batch, weight in turns(self.strategy, chosen, self._lengths, self.settings.micro_tokens, self._split):
                examples, noise = [self._examples[i] for i in batch], self._noise(step, batch)
                loss = weight * self.strategy.forward(self._model, example_loss_sum, examples, noise, self.settings.packing)
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
        lengths, packed = [len(example.ids) for example in self._held_out], self.settings.packing
        mine = sum(
            weight * float(self.strategy.forward(self._model, example_loss_sum, [self._held_out[i] for i in batch], None, packed))
            for batch, weight in turns(self.strategy, range(len(lengths)), lengths, self.settings.micro_tokens, self._split)
        )
        (total,) = self.strategy.sum([mine])
        return {"eval_loss": total / sum(sum(example.labelled) for example in self._held_out)}

    def _noise(self, step: int, batch: Sequence[int]) -> list[torch.Tensor] | None:
        if not self.settings.neftune:
            return None
        hidden = int(self._model.config.hidden_size)
        seeds = [derive(self._seed, self.name, "neftune", step, i) for i in batch]
        return [neftune_noise(self._lengths[i], hidden, self.settings.neftune, seed) for i, seed in zip(batch, seeds, strict=True)]


def example_loss_sum(
    model: PreTrainedModel, examples: Sequence[Example], noise: Sequence[torch.Tensor] | None = None, packed: bool = False
) -> torch.Tensor:
    """Σ cross-entropy over the labelled tokens of a batch (scalar). The output layer sees those positions only.

    :param noise: what is added to each example's embeddings, [tokens, hidden] each.
    :param packed: put the examples behind each other in one row, told apart by positions, instead of side by side with padding.
    """
    ids, flags = [example.ids for example in examples], [[int(flag) for flag in example.labelled] for example in examples]
    positions = None
    if packed:
        positions = torch.cat([torch.arange(len(one)) for one in ids])[None].to(model.device)
        ids, flags = [list(chain(*ids))], [list(chain(*flags))]
        noise = None if noise is None else [torch.cat(list(noise))]
    tokens = right_pad(ids, model.device)
    rows, columns = right_pad(flags).nonzero(as_tuple=True)
    with nullcontext() if noise is None else embeddings_plus(model, nn.utils.rnn.pad_sequence(list(noise), batch_first=True)):
        return cross_entropy_sum(logits_at(model, tokens, rows, columns - 1, positions), tokens[rows, columns])


@contextmanager
def embeddings_plus(model: PreTrainedModel, noise: torch.Tensor) -> Iterator[None]:
    """While the block runs, the model's input embeddings come with *noise* [rows, tokens, hidden]."""
    handle = model.get_input_embeddings().register_forward_hook(lambda _module, _inputs, output: output + noise.to(output))
    try:
        yield
    finally:
        handle.remove()


def neftune_noise(tokens: int, hidden: int, alpha: float, seed: int) -> torch.Tensor:
    """Uniform noise in ±alpha/√(tokens · hidden), [tokens, hidden] (Jain et al. 2023, algorithm 1), of the example's own length.

    Each row of the data has a *seed* of its own, so the noise doesn't depend on micro-batches, packing or ranks.
    """
    draw = torch.rand(tokens, hidden, generator=torch.Generator().manual_seed(seed))
    return (2 * draw - 1) * alpha / (tokens * hidden) ** 0.5


def packed_batches(indices: Sequence[int], lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Rows of a step in groups of at most *tokens* tokens (or one longer row), as few as best fit leaves."""
    sizes = [lengths[i] for i in indices]
    return [[indices[i] for i in group] for group in best_fit_decreasing(sizes, max(tokens, *sizes))] if sizes else []


@torch.no_grad()
def check_packing(model: PreTrainedModel) -> None:
    """Make sure that the model, with its way of computing attention, keeps packed sequences apart.

    :raises UserError: when a sequence's logits depend on what lies before it in the row.
    """
    ids = torch.arange(12, device=model.device) % model.config.vocab_size
    alone = model(input_ids=ids[None, 6:], use_cache=False).logits[0].float()
    positions = torch.cat([torch.arange(6), torch.arange(6)])[None].to(model.device)
    packed = model(input_ids=ids[None], position_ids=positions, use_cache=False).logits[0, 6:].float()
    mixed = model(input_ids=ids[None], use_cache=False).logits[0, 6:].float()
    if float((packed - alone).abs().max()) > max(1e-4, 0.1 * float((mixed - alone).abs().max())):
        raise UserError(
            f"models of type {model.config.model_type} with {model.config._attn_implementation} attention don't keep packed sequences "
            "apart: set packing: false."
        )


def sample_replies(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, probes: Sequence[Prompt], max_tokens: int = 40
) -> list[tuple[Prompt, str]]:
    """The model's greedy reply to each probe."""
    if not probes:
        return []
    replies = generate(model, [probe.ids for probe in probes], Sampling(max_tokens=max_tokens, temperature=0), stop_ids(tokenizer, model))
    return [(probe, decode(tokenizer, reply[0].ids)) for probe, reply in zip(probes, replies, strict=True)]
