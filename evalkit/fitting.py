"""Few-shot prompts that fit: which shots go when a prompt is too long, by the protocol's own rule."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from evalkit.encoding import Encoder

_SLICE = 1024
_JOINT = 5  # more tokens than joining two texts saves, a beginning of sequence of their own included


@dataclass(frozen=True)
class Ask:
    """The parts of one prompt. ``reserve`` tokens are kept free behind it."""

    header: str
    shots: tuple[str, ...]
    block: str
    reserve: int = 0

    def prompt(self, shots: int) -> str:
        """The prompt with the first *shots* shots."""
        return self.header + "".join(self.shots[:shots]) + self.block


@dataclass(frozen=True)
class Fitted:
    """A prompt that fits, or the reason why there is none."""

    text: str
    ids: list[int]
    shots: int
    header: bool = True
    reason: str | None = None


def drop_last(encoder: Encoder, asks: Sequence[Ask], limit: int, on_progress: Callable[[int], None] = lambda done: None) -> list[Fitted]:
    """Drop the last shot until a prompt has at most *limit* tokens (MMLU's rule).

    Prompts are tokenised whole, but only from the first number of shots that the lengths of their parts leave any hope for, so
    hardly any prompt is tokenised twice.
    """
    length = _lengths(encoder, asks)
    fitted: dict[int, Fitted] = {}
    for start in range(0, len(asks), _SLICE):
        pending = _most_shots(encoder, asks, range(start, min(start + _SLICE, len(asks))), length, limit)
        while pending:
            texts = [asks[i].prompt(shots) for i, shots in pending.items()]
            again: dict[int, int] = {}
            for (i, shots), text, ids in zip(pending.items(), texts, encoder.encode(texts), strict=True):
                if len(ids) + asks[i].reserve <= limit:
                    fitted[i] = Fitted(text, ids, shots)
                elif shots == 0:
                    fitted[i] = _too_long(text, limit)
                else:
                    again[i] = shots - 1
            pending = again
        on_progress(len(fitted))
    return [fitted[i] for i in range(len(asks))]


def drop_longest(encoder: Encoder, asks: Sequence[Ask], limit: int, on_progress: Callable[[int], None] = lambda done: None) -> list[Fitted]:
    """Drop the longest shots until what is left is shorter than *limit* tokens, the rest in order (CMMLU's rule).

    Lengths are those of header, block and shots tokenised one by one; equally long shots go together. When header and block
    alone are longer than *limit*, the block is asked without header and shots.
    """
    length = _lengths(encoder, asks)
    (wrapping,) = (len(ids) for ids in encoder.encode([""])) if encoder.chat else (0,)
    fitted: list[Fitted] = []
    for start in range(0, len(asks), _SLICE):
        part = asks[start : start + _SLICE]
        kept: list[Ask] = []
        for ask, block_length in zip(part, encoder.lengths([ask.block for ask in part]), strict=True):
            room = limit - ask.reserve - wrapping
            ends = length[ask.header] + block_length
            if ends > room:
                kept.append(Ask("", (), ask.block, ask.reserve))
                continue
            shots = list(ask.shots)
            while shots and sum(length[shot] for shot in shots) >= room - ends:
                longest = max(length[shot] for shot in shots)
                shots = [shot for shot in shots if length[shot] != longest]
            kept.append(Ask(ask.header, tuple(shots), ask.block, ask.reserve))
        texts = [ask.prompt(len(ask.shots)) for ask in kept]
        for ask, text, ids in zip(kept, texts, encoder.encode(texts), strict=True):
            fits = len(ids) + ask.reserve <= limit
            fitted.append(Fitted(text, ids, len(ask.shots), header=bool(ask.header)) if fits else _too_long(text, limit))
        on_progress(len(fitted))
    return fitted


def _most_shots(encoder: Encoder, asks: Sequence[Ask], part: Iterable[int], length: dict[str, int], limit: int) -> dict[int, int]:
    """For each prompt of *part* the largest number of shots that might fit, judged by the lengths of its parts.

    A token is at least a byte, so a block that would fit even as bytes need not be tokenised for this.
    """
    most: dict[int, int] = {}
    before = {i: list(accumulate((length[shot] for shot in asks[i].shots), initial=length[asks[i].header] + asks[i].reserve)) for i in part}
    unsure = [i for i, totals in before.items() if totals[-1] + len(asks[i].block.encode()) > limit]
    block = dict(zip(unsure, encoder.lengths([asks[i].block for i in unsure]), strict=True))
    for i, totals in before.items():
        most[i] = len(totals) - 1
        while most[i] and totals[most[i]] + block.get(i, 0) > limit + _JOINT * (most[i] + 2):
            most[i] -= 1
    return most


def _lengths(encoder: Encoder, asks: Sequence[Ask]) -> dict[str, int]:
    """The lengths of all headers and shots, each tokenised on its own."""
    pieces = list({piece for ask in asks for piece in (ask.header, *ask.shots)})
    return dict(zip(pieces, encoder.lengths(pieces), strict=True))


def _too_long(text: str, limit: int) -> Fitted:
    return Fitted(text, [], 0, reason=f"longer than {limit} tokens even without shots")
