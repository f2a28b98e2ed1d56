"""A checkpoint on this machine. It takes token ids, chooses order and batches by itself, and hands results over batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from modelkit import checkpoint
from modelkit.chat import stop_ids
from modelkit.generation import loop
from modelkit.generation.loop import Completion
from modelkit.generation.sampling import Sampling
from modelkit.scoring import logprobs, strings
from modelkit.scoring.batches import by_length

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Ids = Sequence[int]
Wanted = Set[int] | None


@dataclass
class LocalModel:
    """A loaded checkpoint. ``on_batch`` gets the indices of a batch and its results, in whatever order suits the model.

    Batches are planned over everything that is passed, and those without any index in ``wanted`` (``None``: all) are skipped: so
    an evaluation that goes on after a kill meets the very batches, and the very last digits, of one that never stopped.
    With *exact*, every sequence is computed alone.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    device: torch.device
    dtype: torch.dtype
    exact: bool = False
    batch_tokens: int = 8192
    tokens_computed: int = 0
    tokens_reused: int = 0
    flops: float = 0.0
    sharing: str = "none"

    @property
    def context(self) -> int | None:
        """The longest sequence the model reads, in tokens; ``None`` when its configuration doesn't say."""
        return getattr(self.model.config, "max_position_embeddings", None)

    def alone(self) -> LocalModel:
        """The same weights with *exact*, to check results against."""
        return replace(self, exact=True)

    def string_logprobs(
        self,
        prompts: Sequence[Ids],
        answers: Sequence[Ids],
        on_batch: Callable[[list[int], torch.Tensor], None],
        wanted: Wanted = None,
    ) -> None:
        """Natural-log probability of each of *answers* after each prompt, fp32 [batch, answers]."""
        for batch in self._batches([len(prompt) for prompt in prompts], wanted):
            found = strings.string_logprobs(self.model, [prompts[i] for i in batch], answers, self.batch_tokens)
            self.tokens_computed += sum(len(prompts[i]) + len(group[-1]) for i in batch for group in strings.passes(answers))
            on_batch(batch, found)

    def continuation_logprobs(
        self,
        contexts: Sequence[Ids],
        continuations: Sequence[Ids],
        on_batch: Callable[[list[int], list[torch.Tensor]], None],
        wanted: Wanted = None,
    ) -> None:
        """Natural-log probability of every token of each continuation after its context, one fp32 tensor per pair."""
        lengths = [len(context) + len(continuation) for context, continuation in zip(contexts, continuations, strict=True)]
        for batch in self._batches(lengths, wanted):
            pairs = [contexts[i] for i in batch], [continuations[i] for i in batch]
            self.tokens_computed += sum(lengths[i] for i in batch)
            on_batch(batch, logprobs.continuation_logprobs(self.model, *pairs, self.batch_tokens))

    def generate(
        self,
        prompts: Sequence[Ids],
        sampling: Sampling | Sequence[Sampling],
        on_batch: Callable[[list[int], list[Completion]], None],
        wanted: Wanted = None,
    ) -> None:
        """One completion of each prompt."""
        settings = [sampling] * len(prompts) if isinstance(sampling, Sampling) else sampling
        stop = stop_ids(self.tokenizer, self.model)
        for batch in self._batches([len(prompts[i]) + settings[i].max_tokens for i in range(len(prompts))], wanted):
            rows = loop.generate(self.model, [prompts[i] for i in batch], [settings[i] for i in batch], stop)
            self.tokens_computed += sum(len(prompts[i]) + len(row[0].ids) for i, row in zip(batch, rows, strict=True))
            on_batch(batch, [row[0] for row in rows])

    def _batches(self, lengths: Sequence[int], wanted: Wanted) -> list[list[int]]:
        planned = by_length(lengths, 1 if self.exact else self.batch_tokens)
        return [batch for batch in planned if wanted is None or not wanted.isdisjoint(batch)]


def load(path: Path, kind: Literal["language", "reward"], dtype: torch.dtype, device: torch.device, exact: bool = False) -> LocalModel:
    """Load a checkpoint.

    :raises UserError: when it isn't whole or not of this kind.
    """
    return LocalModel(checkpoint.load_model(path, kind, dtype, device), checkpoint.load_tokenizer(path), device, dtype, exact)
