"""Few-shot prompts that fit: what goes when a prompt is too long, by the protocol's own rule."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, Literal

from evalkit.encoding import PromptEncoder, Said
from modelkit.chat import Message

Rule = Literal["last", "longest", "left"]
"""What goes when a prompt is too long: the last shot, the longest shots, or tokens on the left."""

_SLICE = 1024
_JOINT = 5  # more tokens than joining two texts saves, a beginning of sequence of their own included


@dataclass(frozen=True)
class Ask:
    """The parts of one prompt. ``reserve`` tokens are kept free behind it.

    :param number: stands before the block, with the place of the question in the prompt (from 1) for its ``{}``.
    :param system: what a chat begins with.
    :param turns: the shots in a chat, each a user's turn and the reply to it; without them the whole prompt is one turn.
    :param turn: the question in a chat, where that isn't the block.
    :param opens: whether the header opens a chat's first user's turn.
    """

    header: str
    shots: tuple[str, ...]
    block: str
    reserve: int = 0
    number: str = ""
    system: str = ""
    turns: tuple[tuple[str, str], ...] = ()
    turn: str | None = None
    opens: bool = True

    def text(self, shots: int | None = None) -> str:
        """The plain prompt with the first *shots* shots, or all."""
        kept = self.shots[:shots]
        return self.header + "".join(kept) + self.number.format(len(kept) + 1) + self.block

    def messages(self, shots: int | None = None) -> list[Message]:
        """The prompt as a conversation."""
        if self.shots and not self.turns:
            return [{"role": "user", "content": self.text(shots)}]
        kept = self.turns[:shots]
        last = self.number.format(len(kept) + 1) + (self.block if self.turn is None else self.turn)
        said: list[Message] = [{"role": "system", "content": self.system}] if self.system else []
        for asked, reply in kept:
            said += [{"role": "user", "content": asked}, {"role": "assistant", "content": reply}]
        said.append({"role": "user", "content": last})
        if self.opens:
            place = int(bool(self.system))
            said[place] = {"role": "user", "content": self.header + said[place]["content"]}
        return said

    def prompt(self, shots: int | None = None, chat: bool = False) -> Said:
        """The prompt, as a text or as a conversation."""
        return self.messages(shots) if chat else self.text(shots)

    def keeping(self, places: Sequence[int]) -> Ask:
        """The same with the shots at *places* only."""
        turns = tuple(self.turns[i] for i in places) if self.turns else ()
        return replace(self, shots=tuple(self.shots[i] for i in places), turns=turns)


@dataclass(frozen=True)
class Fitted:
    """A prompt that fits, or the reason why there is none. ``cut`` counts the tokens that were taken off on the left."""

    said: Said
    text: str
    ids: list[int]
    shots: int
    header: bool = True
    cut: int = 0
    reason: str | None = None

    @property
    def losses(self) -> dict[str, Any]:
        """What a prompt lost beside its shots, for its sample; mostly nothing."""
        return ({} if self.header else {"header_dropped": True}) | ({"tokens_cut": self.cut} if self.cut else {})


def fit(rule: Rule, encoder: PromptEncoder, asks: Sequence[Ask], limit: int) -> list[Fitted]:
    """The prompts, each with at most *limit* tokens and its reserve."""
    return {"last": drop_last, "longest": drop_longest, "left": cut_left}[rule](encoder, asks, limit)


def longest(limit: int | None, context: int | None, reserve: int = 0) -> int:
    """The longest prompt in tokens: a protocol's limit, or what the model's context leaves beside *reserve* tokens."""
    return min(limit or sys.maxsize, (context or sys.maxsize) - reserve)


def drop_last(encoder: PromptEncoder, asks: Sequence[Ask], limit: int) -> list[Fitted]:
    """Drop the last shot until a prompt has at most *limit* tokens (MMLU's rule).

    Prompts are tokenised whole, but only from the first number of shots that the lengths of their parts leave any hope for, so
    hardly any prompt is tokenised twice.
    """
    length = _lengths(encoder, asks)
    fitted: dict[int, Fitted] = {}
    for start in range(0, len(asks), _SLICE):
        pending = _most_shots(encoder, asks, range(start, min(start + _SLICE, len(asks))), length, limit)
        while pending:
            said = [asks[i].prompt(shots, encoder.chat) for i, shots in pending.items()]
            again: dict[int, int] = {}
            for (i, shots), prompt, ids in zip(pending.items(), said, encoder.encode(said), strict=True):
                if len(ids) + asks[i].reserve <= limit:
                    fitted[i] = Fitted(prompt, encoder.render(prompt), ids, shots)
                elif shots == 0:
                    fitted[i] = _too_long(encoder, prompt, limit)
                else:
                    again[i] = shots - 1
            pending = again
    return [fitted[i] for i in range(len(asks))]


def drop_longest(encoder: PromptEncoder, asks: Sequence[Ask], limit: int) -> list[Fitted]:
    """Drop the longest shots until what is left is shorter than *limit* tokens, the rest in order (CMMLU's rule).

    Lengths are those of header, block and shots tokenised one by one; equally long shots go together. When header and block
    alone are longer than *limit*, the block is asked without header and shots. Where the whole is still too long (a chat's
    template takes tokens too), more shots go the same way.
    """
    length = _lengths(encoder, asks)
    fitted: list[Fitted] = []
    for start in range(0, len(asks), _SLICE):
        part = asks[start : start + _SLICE]
        kept: list[Ask] = []
        for ask, block in zip(part, encoder.lengths([ask.block for ask in part]), strict=True):
            room = limit - ask.reserve - length[ask.header] - block
            if room < 0:
                kept.append(replace(ask, header="", shots=(), turns=()))
                continue
            while ask.shots and sum(length[shot] for shot in ask.shots) >= room:
                ask = _without_longest(ask, length)
            kept.append(ask)
        said = [ask.prompt(chat=encoder.chat) for ask in kept]
        for ask, prompt, ids in zip(kept, said, encoder.encode(said), strict=True):
            while len(ids) + ask.reserve > limit and ask.shots:
                ask = _without_longest(ask, length)
                prompt = ask.prompt(chat=encoder.chat)
                (ids,) = encoder.encode([prompt])
            fits = len(ids) + ask.reserve <= limit
            made = Fitted(prompt, encoder.render(prompt), ids, len(ask.shots), header=bool(ask.header))
            fitted.append(made if fits else _too_long(encoder, prompt, limit))
    return fitted


def cut_left(encoder: PromptEncoder, asks: Sequence[Ask], limit: int) -> list[Fitted]:
    """Keep all shots and cut tokens off on the left (lm-evaluation-harness's rule), header and beginning of sequence first."""
    fitted = []
    said = [ask.prompt(chat=encoder.chat) for ask in asks]
    for ask, prompt, ids in zip(asks, said, encoder.encode(said), strict=True):
        cut = max(0, len(ids) + ask.reserve - limit)
        fitted.append(Fitted(prompt, encoder.render(prompt), ids[cut:], len(ask.shots), cut=cut))
    return fitted


def within(encoder: PromptEncoder, header: str, shots: Sequence[str], budget: int) -> int:
    """How many of the first shots fit, with the header, into fewer than *budget* tokens (AGIEval's rule for choosing shots)."""
    texts = [header + "".join(shots[: count + 1]) for count in range(len(shots))]
    return next((count for count, length in enumerate(encoder.lengths(texts)) if length >= budget), len(shots))


def _without_longest(ask: Ask, length: dict[str, int]) -> Ask:
    most = max(length[shot] for shot in ask.shots)
    return ask.keeping([i for i, shot in enumerate(ask.shots) if length[shot] != most])


def _most_shots(encoder: PromptEncoder, asks: Sequence[Ask], part: Iterable[int], length: dict[str, int], limit: int) -> dict[int, int]:
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


def _lengths(encoder: PromptEncoder, asks: Sequence[Ask]) -> dict[str, int]:
    """The lengths of all headers and shots, each tokenised on its own."""
    pieces = list({piece for ask in asks for piece in (ask.header, *ask.shots)})
    return dict(zip(pieces, encoder.lengths(pieces), strict=True))


def _too_long(encoder: PromptEncoder, prompt: Said, limit: int) -> Fitted:
    return Fitted(prompt, encoder.render(prompt), [], 0, reason=f"longer than {limit} tokens even without shots")
