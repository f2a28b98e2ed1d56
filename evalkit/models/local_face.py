"""A checkpoint on this machine, asked in texts: they are encoded here, and the model gets token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

from evalkit.encoding import Encoder, Said
from evalkit.models.face import Letters, Prompt, Reading, Readings, Replies, Reply, Wanted
from evalkit.models.local import LocalModel
from modelkit.generation.loop import Completion
from modelkit.generation.sampling import Sampling

if TYPE_CHECKING:
    import torch


@dataclass
class LocalFace:
    """See :class:`evalkit.models.face.Face`."""

    model: LocalModel
    encoder: Encoder

    @property
    def context(self) -> int | None:
        """The longest sequence the model reads, in tokens; ``None`` when its configuration doesn't say."""
        return self.model.context

    def letters(self, prompt: Said, lead: str, letters: Sequence[str]) -> Letters:
        """See :meth:`evalkit.models.face.Face.letters`.

        The letters' tokens are those that the tokenizer gives them behind the prompt and *lead* (in a chat: what the template
        writes before a reply).

        :raises UserError: when a letter has no tokens of its own there.
        """
        tokens = self.encoder.answer_tokens(prompt, lead, letters)
        return Letters(tuple(lead + letter for letter in letters), tuple(map(tuple, tokens)), room=max(map(len, tokens)) - 1)

    def letter_logprobs(self, prompts: Sequence[Prompt], letters: Letters, on_batch: Readings, wanted: Wanted = None) -> None:
        """See :meth:`evalkit.models.face.Face.letter_logprobs`. A letter of several tokens has the product of their probabilities."""

        def settle(batch: list[int], found: torch.Tensor) -> None:
            on_batch(batch, [Reading(tuple(row)) for row in found.tolist()])

        self.model.string_logprobs([prompt.ids for prompt in prompts], letters.tokens, settle, wanted)

    def continuation_logprobs(
        self, prompts: Sequence[Prompt], lead: str, texts: Sequence[str], on_batch: Readings, wanted: Wanted = None
    ) -> None:
        """See :meth:`evalkit.models.face.Face.continuation_logprobs`."""
        wholes = self.encoder.encode_answered([prompt.said for prompt in prompts], lead, texts)
        starts = [_shared(prompt.ids, whole) for prompt, whole in zip(prompts, wholes, strict=True)]
        able = [i for i, (start, whole) in enumerate(zip(starts, wholes, strict=True)) if 0 < start < len(whole)]
        empty = sorted(set(range(len(prompts))) - set(able))
        if empty:
            on_batch(empty, [Reading(reason="an option has no tokens")] * len(empty))

        def settle(batch: list[int], found: list[torch.Tensor]) -> None:
            on_batch([able[k] for k in batch], [Reading(tuple(values.tolist())) for values in found])

        places = None if wanted is None else {k for k, i in enumerate(able) if i in wanted}
        self.model.continuation_logprobs([wholes[i][: starts[i]] for i in able], [wholes[i][starts[i] :] for i in able], settle, places)

    def complete(
        self, prompts: Sequence[Prompt], sampling: Sampling, stop: Sequence[str], on_batch: Replies, wanted: Wanted = None
    ) -> None:
        """See :meth:`evalkit.models.face.Face.complete`."""

        def settle(batch: list[int], found: list[Completion]) -> None:
            on_batch(batch, [self._reply(one, stop) for one in found])

        self.model.generate([prompt.ids for prompt in prompts], sampling, settle, wanted, stop)

    def _reply(self, completion: Completion, stop: Sequence[str]) -> Reply:
        text = str(self.model.tokenizer.decode(completion.ids, skip_special_tokens=True))
        end = min((at for mark in stop if (at := text.find(mark)) >= 0), default=len(text))
        return Reply(text[:end], len(completion.ids), "length" if completion.finish == "length" and end == len(text) else "stop")


def _shared(prompt: Sequence[int], whole: Sequence[int]) -> int:
    """Length of the common beginning; at least one token is needed to predict from."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(prompt, whole, strict=False)))
