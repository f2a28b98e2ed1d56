"""The one decoding loop of the house: a batch that sequences join and leave between steps. Token ids in, token ids out.

No thread, no text, no clock: :mod:`modelkit.generation.loop` drives it to the end for trainers and evalkit,
:mod:`modelkit.generation.engine` a step at a time for people who chat.
"""

from __future__ import annotations

import inspect
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from modelkit.errors import UserError
from modelkit.generation.prefixes import PrefixStore, shared_length
from modelkit.generation.sampling import Chooser, Sampling, uniform
from modelkit.generation.slots import SlotCache, context_served

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Finish = Literal["stop", "length", "cancelled", "deadline", "error"]

_WORTH_SHARING = 16
"""Fewer tokens than this are computed anew rather than copied, so that short prompts stay together in one forward pass."""
_PASS = 32
"""About what a forward pass costs beside its tokens, in tokens."""


@dataclass(frozen=True)
class Token:
    """One step of one sample of prompt *key*. ``finish`` is set on its last token; ``top`` lists (token, log-probability)."""

    key: int
    sample: int
    id: int
    logprob: float
    finish: Finish | None
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class _Prompt:
    key: int
    ids: list[int]
    sampling: Sampling
    stop: frozenset[int]
    n: int
    top: int
    budget: int

    @property
    def columns(self) -> int:
        """The longest that a sequence may become in the cache (its last token is never read)."""
        return len(self.ids) + self.budget - 1


@dataclass(eq=False)
class _Row:
    """A sequence: *ids* is prompt and reply so far, the first *cached* of which are in the cache."""

    prompt: _Prompt
    sample: int
    ids: list[int]
    cached: int = 0
    seen: Tensor | None = None

    @property
    def drawn(self) -> int:
        return len(self.ids) - len(self.prompt.ids)

    @property
    def unread(self) -> int:
        """Tokens to read before the next one can be drawn; the last one is read by the step that draws."""
        return len(self.ids) - 1 - self.cached


@dataclass
class Tally:
    """What a batch has done so far, in tokens, forward passes and seconds (by part of a step)."""

    computed: int = 0
    reused: int = 0
    drawn: int = 0
    passes: int = 0
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))


class Batch:
    """Live sequences of one model. Rows 0 … *drawing* - 1 draw a token each step, the rows after them still read their prompt.

    :param max_rows: how many samples may be live at once; further prompts wait.
    :param chunk: prompt tokens read per step while other rows draw, so that a long prompt holds nobody up; *burst* while none does.
    :param prefixes: where keys and values of finished sequences are kept for prompts that begin with them.
    :param cache_bytes: prompts wait rather than let the cache grow beyond this; one prompt alone is always let in.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        max_rows: int = 64,
        chunk: int = 8192,
        burst: int = 8192,
        prefixes: PrefixStore | None = None,
        cache_bytes: int | None = None,
    ) -> None:
        self.model, self.tally, self._prefixes = model, Tally(), prefixes
        self._max_rows, self._chunk, self._burst, self._cache_bytes = max_rows, chunk, burst, cache_bytes
        self._cache = SlotCache(model)
        self.context = context_served(model.config)
        """The longest sequence, in tokens; ``None`` where the model has no limit of its own."""
        plain: Any = model
        if hasattr(model, "get_base_model"):  # adapters hide the signature
            plain = plain.get_base_model()
        self._positions = "position_ids" in inspect.signature(plain.forward).parameters
        attention = getattr(plain.config, "_attn_implementation", None)
        # where positions or ALiBi are made from the mask it must say which tokens are there, one per column; elsewhere the mask
        # that attention adds is handed over ready-made: on a CPU it costs half of what a boolean one does
        self._additive = self._positions and not getattr(plain.config, "alibi", False) and attention in ("sdpa", "eager")
        self._waiting: deque[_Prompt] = deque()
        self._rows: list[_Row] = []
        self._drawing = 0
        self._chooser: Chooser | None = None
        self._next_key = 0
        self.reused: dict[int, int] = {}
        """Tokens of each live prompt, by its key, that were in the cache already."""
        self._entering: int | None = None

    @property
    def busy(self) -> bool:
        """Whether anything is live or waiting."""
        return bool(self._rows or self._waiting)

    @property
    def live(self) -> int:
        """Rows in the cache."""
        return len(self._rows)

    @property
    def waiting(self) -> int:
        """Prompts that have not been let in."""
        return len(self._waiting)

    def add(self, prompt: Sequence[int], sampling: Sampling, stop: Sequence[int], n: int = 1, top: int = 0) -> int:
        """Queue *n* samples of a prompt, which join at the next step; returns the key that their tokens carry.

        :param stop: token ids that end a sample.
        :param top: how many of the likeliest tokens to report at each step.
        :raises UserError: when the prompt leaves no room for an answer in the model's context, or *n* is more than there are rows.
        """
        self.check(prompt, n)
        length = len(prompt)
        budget = min(sampling.max_tokens, self.context - length) if self.context else sampling.max_tokens
        self._next_key += 1
        self._waiting.append(_Prompt(self._next_key, list(prompt), sampling, frozenset(stop), n, top, budget))
        return self._next_key

    def check(self, prompt: Sequence[int], n: int = 1) -> None:
        """:raises UserError: what :meth:`add` would raise."""
        length = len(prompt)
        if length == 0 or (self.context and length >= self.context):
            raise UserError(
                f"the prompt has {length} tokens, but it must have at least 1 and leave room in the model's context of {self.context}."
            )
        if not 1 <= n <= self._max_rows:
            raise UserError(f"{n} samples were asked for: from 1 to {self._max_rows} are possible.")

    def drop(self, key: int, sample: int | None = None) -> None:
        """Let a prompt, or one sample of it, leave before the next step. Its tokens so far stay of use as a prefix."""
        if self._entering == key:
            self._entering = None
        if sample is None:
            self._waiting = deque(prompt for prompt in self._waiting if prompt.key != key)
        with torch.inference_mode():
            for row in [row for row in self._rows if row.prompt.key == key and sample in (None, row.sample)]:
                self._remove(row)

    def newest(self) -> int | None:
        """The key of the prompt that is being let in or, after that, of the last one that was."""
        return self._entering or max((row.prompt.key for row in self._rows), default=None)

    def forget(self) -> None:
        """Give back the cache's memory (when nothing is live) and every kept prefix."""
        if not self._rows:
            self._cache.release()
        if self._prefixes is not None:
            self._prefixes.clear()

    def rest(self) -> None:
        """Give back the cache's memory until the next prompt comes."""
        if not self._rows:
            self._cache.release()

    @torch.inference_mode()
    def step(self) -> list[Token]:
        """Let prompts in, read a share of them, and draw one token for every row that is ready.

        When it raises (out of memory, say), every sequence is as it was before the step or has read more of its prompt: drop one
        and step again.
        """
        started = perf_counter()
        self._admit()
        admitted = perf_counter()
        self._read()
        read = perf_counter()
        self.tally.seconds["admit"] += admitted - started
        self.tally.seconds["read"] += read - admitted
        return self._draw() if self._drawing else []

    # -- letting in ----------------------------------------------------------------------------------------------------------

    def _admit(self) -> None:
        held: list[_Prompt] = []
        while self._waiting:
            prompt = self._waiting[0]
            if not self._fits(prompt):
                break
            row = _Row(prompt, 0, prompt.ids.copy())
            if self._soon(prompt):
                held.append(self._waiting.popleft())
                continue
            self._entering = prompt.key
            live = {other.prompt.key: other.prompt for other in self._rows} | {prompt.key: prompt}
            self._cache.fit(_with_spare(self._reserved(live)), max(one.columns for one in live.values()))
            self._start(row)
            self._waiting.popleft()
            self._entering = None
        self._waiting.extendleft(reversed(held))

    def _fits(self, prompt: _Prompt) -> bool:
        live = {row.prompt.key: row.prompt for row in self._rows}
        if not live:
            return True
        rows = self._reserved(live) + prompt.n
        columns = max(one.columns for one in (*live.values(), prompt))
        within = self._cache_bytes is None or _with_spare(rows) * columns * self._cache.token_bytes() <= self._cache_bytes
        return rows <= self._max_rows and within

    def _reserved(self, live: dict[int, _Prompt]) -> int:
        """Rows taken, or promised to the further samples of prompts that are still being read."""
        held = Counter(row.prompt.key for row in self._rows)
        reading = {row.prompt.key for row in self._rows[self._drawing :]}
        return sum(prompt.n if key in reading or not held[key] else held[key] for key, prompt in live.items())

    def _soon(self, prompt: _Prompt) -> bool:
        """Whether a row is at present reading a beginning that this prompt shares, so that waiting spares reading it twice."""
        ahead = self._rows[self._drawing :]
        return any(
            min(shared_length(row.ids, prompt.ids), len(prompt.ids) - 1) >= row.cached + _WORTH_SHARING for row in ahead if row.unread
        )

    def _start(self, row: _Row) -> None:
        """Give a row its slot, with as much of its prompt as a live row or a kept prefix already holds."""
        slot, most = len(self._rows), len(row.ids) - 1
        shares = [min(shared_length(other.ids, row.ids), other.cached, most) for other in self._rows]
        lines, kept = self._prefixes.find(row.ids) if self._prefixes is not None else ([], 0)
        if max(kept, *shares, 0) >= _WORTH_SHARING:
            if kept > max(shares, default=0):
                row.cached = min(kept, most)
                self._cache.paste(slot, lines, row.cached)
            else:
                row.cached = max(shares)
                self._cache.move(shares.index(row.cached), slot, row.cached)
            self.tally.reused += row.cached
        self.reused[row.prompt.key] = row.cached
        self._rows.append(row)
        if not row.unread:
            self._ready(row)

    # -- slots ---------------------------------------------------------------------------------------------------------------

    def _ready(self, row: _Row) -> None:
        """Move a row whose prompt has been read to the drawing rows, with one more for each further sample."""
        at, first, spare = self._rows.index(row), self._drawing, len(self._rows)
        if at != first:
            other = self._rows[first]
            self._cache.move(first, spare, other.cached)
            self._cache.move(at, first, row.cached)
            self._cache.move(spare, at, other.cached)
            self._rows[first], self._rows[at] = row, other
        if row.prompt.sampling.repetition_penalty != 1:
            row.seen = torch.zeros(self.model.config.get_text_config().vocab_size, dtype=torch.bool, device=self.model.device)
            row.seen[row.ids] = True
        self._drawing += 1
        self._chooser = None
        for sample in range(1, row.prompt.n):
            twin = _Row(row.prompt, sample, row.ids.copy(), row.cached, None if row.seen is None else row.seen.clone())
            if self._drawing < len(self._rows):
                displaced = self._rows[self._drawing]
                self._cache.move(self._drawing, len(self._rows), displaced.cached)
                self._rows.append(displaced)
                self._rows[self._drawing] = twin
            else:
                self._rows.append(twin)
            self._cache.move(first, self._drawing, row.cached)
            self._drawing += 1

    def _remove(self, row: _Row) -> None:
        """Take a row out; the last row of its kind closes the gap."""
        hole = self._rows.index(row)
        if self._prefixes is not None and row.cached >= _WORTH_SHARING:
            with suppress(RuntimeError, MemoryError):  # what can't be kept is computed again
                self._prefixes.put(row.ids[: row.cached], self._cache.copy(hole, row.cached))
        if hole < self._drawing:
            self._drawing -= 1
            self._chooser = None
            hole = self._fill(hole, self._drawing)
        self._fill(hole, len(self._rows) - 1)
        self._rows.pop()
        if not any(other.prompt is row.prompt for other in self._rows):
            del self.reused[row.prompt.key]

    def _fill(self, hole: int, source: int) -> int:
        if source != hole:
            self._rows[hole] = self._rows[source]
            self._cache.move(source, hole, self._rows[source].cached)
        return source

    # -- reading prompts -----------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        """Read a share of every prompt that waits for it; each may take half of what is left while others stand behind it."""
        left = self._chunk if self._drawing else self._burst
        queue = sorted(self._rows[self._drawing :], key=lambda row: row.prompt.key)
        takes: dict[_Row, int] = {}
        for behind, row in zip(range(len(queue) - 1, -1, -1), queue, strict=True):
            takes[row] = min(row.unread, (left + 1) // 2 if behind else left)
            left -= takes[row]
        for first, last in list(self._runs(takes)):
            self._forward_prompts(first, last, takes)
        for row in [row for row in queue if not row.unread]:
            self._ready(row)

    def _runs(self, takes: dict[_Row, int]) -> Iterator[tuple[int, int]]:
        """Neighbouring rows that go through the model together, because padding costs less than another forward pass.

        A run starts where the least advanced of its rows stands: reading a few tokens twice changes nothing.
        """

        def cost(rows: Sequence[_Row]) -> int:
            return len(rows) * (max(row.cached + takes[row] for row in rows) - min(row.cached for row in rows))

        first = self._drawing
        while first < len(self._rows):
            last = first + 1
            if takes[self._rows[first]]:
                while last < len(self._rows) and takes[self._rows[last]]:
                    run = self._rows[first : last + 1]
                    if cost(run) > cost(run[:-1]) + cost(run[-1:]) + _PASS:
                        break
                    last += 1
                yield first, last
            first = last

    def _forward_prompts(self, first: int, last: int, takes: dict[_Row, int]) -> None:
        rows = self._rows[first:last]
        start, end = min(row.cached for row in rows), max(row.cached + takes[row] for row in rows)
        ids = torch.zeros(len(rows), end - start, dtype=torch.long)
        for i, row in enumerate(rows):
            part = row.ids[start : row.cached + takes[row]]
            ids[i, : len(part)] = torch.tensor(part)
        self._cache.read(first, last, start, end)
        self._forward(ids, torch.arange(start, end).expand(len(rows), -1), None)
        for row in rows:
            row.cached += takes[row]
            self.tally.computed += takes[row]

    # -- drawing tokens ------------------------------------------------------------------------------------------------------

    def _draw(self) -> list[Token]:
        started = perf_counter()
        rows = self._rows[: self._drawing]
        lengths = [row.cached for row in rows]
        ids, columns = torch.tensor([[row.ids[-1]] for row in rows]), torch.tensor(lengths, device=self.model.device)
        self._cache.advance(lengths, columns)
        logits = self._forward(ids, columns[:, None], self._mask(columns) if self._cache.view.columns is not None else None)
        forwarded = perf_counter()

        if self._chooser is None:
            self._chooser = Chooser([row.prompt.sampling for row in rows], logits.device)
        uniforms = [uniform(row.prompt.sampling.seed + row.sample, row.drawn) for row in rows] if self._chooser.random else []
        tokens, logprobs = self._chooser.choose(logits, uniforms, [row.seen for row in rows])
        chosen, chances, tops = tokens.tolist(), logprobs.tolist(), self._tops(rows, logits)
        drawn = perf_counter()

        result: list[Token] = []
        for i, row in enumerate(rows):
            row.cached += 1
            row.ids.append(chosen[i])
            if row.seen is not None:
                row.seen[chosen[i]] = True
            finish: Finish | None = "stop" if chosen[i] in row.prompt.stop else "length" if row.drawn == row.prompt.budget else None
            result.append(Token(row.prompt.key, row.sample, chosen[i], chances[i], finish, tops.get(i, ())))
        for row, token in zip(rows, result, strict=True):
            if token.finish:
                self._remove(row)
        self.tally.computed += len(rows)
        self.tally.drawn += len(rows)
        self.tally.seconds["forward"] += forwarded - started
        self.tally.seconds["choose"] += drawn - forwarded
        self.tally.seconds["keep"] += perf_counter() - drawn
        return result

    def _mask(self, columns: Tensor) -> Tensor:
        """What hides the columns after each row's own last one."""
        visible = torch.arange(self._cache.view.end, device=columns.device) <= columns[:, None]
        if not self._additive:
            return visible
        least = torch.finfo(self.model.dtype).min
        return torch.zeros(visible.shape, dtype=self.model.dtype, device=visible.device).masked_fill_(~visible, least)[:, None, None]

    def _tops(self, rows: Sequence[_Row], logits: Tensor) -> dict[int, tuple[tuple[int, float], ...]]:
        wanted = [i for i, row in enumerate(rows) if row.prompt.top]
        if not wanted:
            return {}
        best = logits[wanted].float().log_softmax(-1).topk(max(rows[i].prompt.top for i in wanted), dim=-1)
        pairs = zip(wanted, best.indices.tolist(), best.values.tolist(), strict=True)
        return {i: tuple(zip(ids, chances, strict=True))[: rows[i].prompt.top] for i, ids, chances in pairs}

    def _forward(self, ids: Tensor, positions: Tensor, mask: Tensor | None) -> Tensor:
        """The logits after each row's last token, [rows, vocabulary]."""
        device = self.model.device
        named = {"position_ids": positions.to(device)} if self._positions else {}
        self.tally.passes += 1
        output = self.model(
            input_ids=ids.to(device), attention_mask=mask, past_key_values=self._cache, use_cache=True, logits_to_keep=1, **named
        )
        return output.logits[:, -1]


def _with_spare(rows: int) -> int:
    """Rows of the cache for so many sequences: one more, which two that change places need; none of that where there is only one."""
    return rows + (rows > 1)
