"""A checkpoint on this machine. It takes token ids, chooses order and batches by itself, and hands results over batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from modelkit import checkpoint
from modelkit.chat import stop_ids
from modelkit.context import longest_sequence
from modelkit.generation import loop
from modelkit.generation.loop import Completion
from modelkit.generation.sampling import Sampling
from modelkit.generation.stream import TextStream
from modelkit.gptq.layer import always_dequantise
from modelkit.scoring.batches import by_length
from modelkit.scoring.logprobs import score_continuations
from modelkit.scoring.scorer import Scorer
from modelkit.scoring.strings import score_strings

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Ids = Sequence[int]
Wanted = Set[int] | None
Found = TypeVar("Found")


@dataclass
class LocalModel:
    """A loaded checkpoint. ``on_batch`` gets the indices of a batch and its results, in whatever order suits the model.

    Batches are planned over everything that is passed, and those without any index in ``wanted`` (``None``: all) are skipped: so
    an evaluation that goes on after a kill meets the very batches, and the very last digits, of one that never stopped.

    :param exact: every sequence is computed alone and from its first token on.
    :param batch_tokens: tokens in a batch; by default what suits the device.
    :param tokens_computed: tokens that went through the model, padding not counted.
    :param tokens_reused: tokens that had already been computed for another sequence.
    :param flops: floating-point operations that scoring needed (:meth:`modelkit.scoring.costs.Costs.flops`).
    :param sharing: what was done about shared beginnings: ``shared prefixes``, or ``no sharing:`` and the reason.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    device: torch.device
    dtype: torch.dtype
    exact: bool = False
    batch_tokens: int | None = None
    tokens_computed: int = 0
    tokens_reused: int = 0
    flops: float = 0.0
    sharing: str = "nothing to share so far"

    @property
    def context(self) -> int | None:
        """The longest sequence the model reads, in tokens; ``None`` when its configuration doesn't say."""
        return longest_sequence(self.model.config)

    def alone(self) -> LocalModel:
        """The same weights with *exact*, to check results against."""
        return LocalModel(self.model, self.tokenizer, self.device, self.dtype, exact=True)

    def string_logprobs(
        self,
        prompts: Sequence[Ids],
        answers: Sequence[Ids],
        on_batch: Callable[[list[int], torch.Tensor], None],
        wanted: Wanted = None,
    ) -> None:
        """Natural-log probability of each of *answers* after each prompt, fp32 [batch, answers]."""
        score_strings(self._scorer, prompts, answers, self._counted(on_batch), wanted)
        self._count()

    def continuation_logprobs(
        self,
        contexts: Sequence[Ids],
        continuations: Sequence[Ids],
        on_batch: Callable[[list[int], list[torch.Tensor]], None],
        wanted: Wanted = None,
    ) -> None:
        """Natural-log probability of every token of each continuation after its context, one fp32 tensor per pair."""
        score_continuations(self._scorer, contexts, continuations, self._counted(on_batch), wanted)
        self._count()

    def generate(
        self,
        prompts: Sequence[Ids],
        sampling: Sampling | Sequence[Sampling],
        on_batch: Callable[[list[int], list[Completion]], None],
        wanted: Wanted = None,
        stop_texts: Sequence[str] = (),
    ) -> None:
        """One completion of each prompt, which ends with the token that completes one of *stop_texts*, if none ended it before."""
        settings = [sampling] * len(prompts) if isinstance(sampling, Sampling) else sampling
        stop = stop_ids(self.tokenizer, self.model)
        lengths = [len(prompt) + one.max_tokens for prompt, one in zip(prompts, settings, strict=True)]
        for batch in by_length(lengths, 1 if self.exact else self.batch_tokens or 8192):
            if wanted is None or not wanted.isdisjoint(batch):
                ended = self._stopper(stop_texts, len(batch))
                rows = loop.generate(self.model, [prompts[i] for i in batch], [settings[i] for i in batch], stop, ended=ended)
                self.tokens_computed += sum(len(prompts[i]) + len(row[0].ids) for i, row in zip(batch, rows, strict=True))
                on_batch(batch, [row[0] for row in rows])

    def _stopper(self, stop_texts: Sequence[str], count: int) -> Callable[[int, int, int], bool]:
        """What reads along with *count* completions and ends each at a stop string."""
        texts = [TextStream(self.tokenizer, stop_texts) for _ in range(count if stop_texts else 0)]

        def ended(place: int, sample: int, token: int) -> bool:
            if not texts:
                return False
            texts[place].put(token)
            return texts[place].finished

        return ended

    @cached_property
    def _scorer(self) -> Scorer:
        return Scorer(self.model, self.batch_tokens, self.exact)

    def _counted(self, on_batch: Callable[[list[int], Found], None]) -> Callable[[list[int], Found], None]:
        """*on_batch*, told only after what the batch took is counted."""

        def count_first(indices: list[int], found: Found) -> None:
            self._count()
            on_batch(indices, found)

        return count_first

    def _count(self) -> None:
        """Take over what the scorer has counted since the last time."""
        scorer = self._scorer
        self.tokens_computed += scorer.tokens_computed
        self.tokens_reused += scorer.tokens_reused
        self.flops += scorer.flops
        scorer.tokens_computed = scorer.tokens_reused = 0
        scorer.flops = 0.0
        self.sharing = scorer.sharing


def load(path: Path, kind: Literal["language", "reward"], dtype: torch.dtype, device: torch.device, exact: bool = False) -> LocalModel:
    """Load a checkpoint; a GPTQ checkpoint computes with dequantised weights, so that scores don't depend on the batch.

    :raises UserError: when it isn't whole or not of this kind.
    """
    model = checkpoint.load_model(path, kind, dtype, device)
    always_dequantise(model)
    return LocalModel(model, checkpoint.load_tokenizer(path), device, dtype, exact)
