"""The one decoding loop of the house: a batch that sequences join and leave between steps. Token ids in, token ids out.

No thread, no text, no clock: :mod:`modelkit.generation.loop` drives it to the end for trainers and evalkit,
:mod:`modelkit.generation.engine` a step at a time for people who chat.
"""

from __future__ import annotations

import inspect
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from modelkit.context import longest_served
from modelkit.errors import UserError
from modelkit.generation.prefixes import PrefixStore, shared_length
from modelkit.generation.sampling import Chooser, Sampling, uniform
from modelkit.generation.sequences import Finish, Prompt, Row, Tally, Token
from modelkit.generation.slots import SlotCache

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_WORTH_SHARING = 16
"""Fewer tokens than this are computed anew rather than copied, so that short prompts stay together in one forward pass."""
_PASS = 32
"""About what a forward pass costs beside its tokens, in tokens."""


class Batch:
    """Live sequences of one model. Rows 0 … *drawing* - 1 draw a token each step, the rows after them still read their prompt.

    :param max_rows: how many samples may be live at once; further prompts wait.
    :param chunk: prompt tokens read per step while other rows draw, so that a long prompt holds nobody up; *burst* while none does.
    :param prefixes: where keys and values of finished sequences are kept for prompts that begin with them.
    :param cache_bytes: prompts wait rather than let the cache grow beyond this, and what would take more alone ends where that does.
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
        self._max_rows, self._chunk, self._burst = max_rows, chunk, burst
        self._cache = SlotCache(model, cache_bytes)
        self._context, self._vocabulary = longest_served(model.config), model.config.get_text_config().vocab_size
        plain: Any = model
        if hasattr(model, "get_base_model"):  # adapters hide the signature
            plain = plain.get_base_model()
        self._positions = "position_ids" in inspect.signature(plain.forward).parameters
        attention = getattr(plain.config, "_attn_implementation", None)
        # where positions or ALiBi are made from the mask it must say which tokens are there, one per column; elsewhere the mask
        # that attention adds is handed over ready-made: on a CPU it costs half of what a boolean one does
        self._additive = self._positions and not getattr(plain.config, "alibi", False) and attention in ("sdpa", "eager")
        self._waiting: deque[Prompt] = deque()
        self._rows: list[Row] = []
        self._drawing = 0
        self._chooser: Chooser | None = None
        self._next_key = 0
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

    @property
    def bytes(self) -> int:
        """What the cache and kept prefixes take at present."""
        return self._cache.bytes + (self._prefixes.bytes if self._prefixes is not None else 0)

    def add(self, prompt: Sequence[int], sampling: Sampling, stop: Sequence[int], n: int = 1, top: int = 0) -> int:
        """Queue *n* samples of a prompt, which join at the next step; returns the key that their tokens carry.

        :param stop: token ids that end a sample.
        :param top: how many of the likeliest tokens to report at each step.
        :raises UserError: when the prompt leaves no room for an answer, has ids that are no tokens, or *n* is more than there are rows.
        """
        self.check(prompt, n)
        room = self.room(n)
        budget = sampling.max_tokens if room is None else min(sampling.max_tokens, room - len(prompt))
        self._next_key += 1
        self._waiting.append(Prompt(self._next_key, list(prompt), sampling, frozenset(stop), n, top, budget))
        return self._next_key

    def check(self, prompt: Sequence[int], n: int = 1) -> None:
        """:raises UserError: what :meth:`add` would raise."""
        if not 1 <= n <= self._max_rows:
            raise UserError(f"{n} samples were asked for: from 1 to {self._max_rows} are possible.")
        if not prompt:
            raise UserError("the prompt has no tokens: at least 1 is needed.")
        length, room = len(prompt), self.room(n)
        if room is not None and length >= room:
            where = f"the model's context of {room}" if room == self._context else f"the {room} that memory holds of each of {n} samples"
            raise UserError(f"the prompt has {length} tokens, but it must leave room for an answer in {where}: shorten it.")
        if not 0 <= min(prompt) <= max(prompt) < self._vocabulary:
            raise UserError(
                f"the prompt has ids from {min(prompt)} to {max(prompt)}: tokens of this model are 0 to {self._vocabulary - 1}."
            )

    def room(self, n: int = 1) -> int | None:
        """The longest that a sequence may become, in tokens, when *n* of them are drawn: what the model reads or, if that is less,
        what the cache may hold. ``None`` where neither has an end."""
        held = self._cache.longest(_with_spare(n))
        return min((limit for limit in (self._context, None if held is None else held + 1) if limit is not None), default=None)

    def drop(self, key: int, sample: int | None = None, keep: bool = True) -> None:
        """Let a prompt, or one sample of it, leave before the next step.

        :param keep: whether its tokens so far stay of use as a prefix.
        """
        if self._entering == key:
            self._entering = None
        if sample is None:
            self._waiting = deque(prompt for prompt in self._waiting if prompt.key != key)
        with torch.inference_mode():
            for row in [row for row in self._rows if row.prompt.key == key and sample in (None, row.sample)]:
                self._remove(row, keep)

    def newest(self) -> int | None:
        """The key of the prompt that is being let in or, after that, of the last one that was."""
        return self._entering or max((row.prompt.key for row in self._rows), default=None)

    def forget(self) -> bool:
        """Give back every kept prefix; returns whether there was any."""
        if not self._prefixes:
            return False
        self._prefixes.clear()
        return True

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
        held: list[Prompt] = []
        try:
            while self._waiting and self._fits(prompt := self._waiting[0]):
                if self._soon(prompt):
                    held.append(self._waiting.popleft())
                    continue
                self._entering = prompt.key
                live = {row.prompt.key: row.prompt for row in self._rows} | {prompt.key: prompt}
                self._cache.fit(_with_spare(self._reserved(live)), max(one.columns for one in live.values()))
                row = self._start(prompt)
                self._waiting.popleft()
                self._entering = None
                if not row.unread:
                    self._ready(row)
        finally:
            self._waiting.extendleft(reversed(held))

    def _fits(self, prompt: Prompt) -> bool:
        live = {row.prompt.key: row.prompt for row in self._rows}
        if not live:
            return True
        rows = self._reserved(live) + prompt.n
        columns = max(one.columns for one in (*live.values(), prompt))
        longest = self._cache.longest(_with_spare(rows))
        return rows <= self._max_rows and (longest is None or columns <= longest)

    def _reserved(self, live: dict[int, Prompt]) -> int:
        """Rows taken, or promised to the further samples of prompts that are still being read."""
        held = Counter(row.prompt.key for row in self._rows)
        reading = {row.prompt.key for row in self._rows[self._drawing :]}
        return sum(prompt.n if key in reading or not held[key] else held[key] for key, prompt in live.items())

    def _soon(self, prompt: Prompt) -> bool:
        """Whether a row is at present reading a beginning that this prompt shares, so that waiting spares reading it twice."""
        ahead = self._rows[self._drawing :]
        return any(
            min(shared_length(row.ids, prompt.ids), len(prompt.ids) - 1) >= row.cached + _WORTH_SHARING for row in ahead if row.unread
        )

    def _start(self, prompt: Prompt) -> Row:
        """Give a prompt its first row, with as much of it as a live row or a kept prefix already holds."""
        row = Row(prompt, 0, prompt.ids.copy())
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
        prompt.reused = row.cached
        self._rows.append(row)
        return row

    # -- slots ---------------------------------------------------------------------------------------------------------------

    def _ready(self, row: Row) -> None:
        """Move a row whose prompt has been read to the drawing rows, with one more for each further sample."""
        at, first, spare = self._rows.index(row), self._drawing, len(self._rows)
        if at != first:
            other = self._rows[first]
            self._cache.move(first, spare, other.cached)
            self._cache.move(at, first, row.cached)
            self._cache.move(spare, at, other.cached)
            self._rows[first], self._rows[at] = row, other
        if row.prompt.sampling.repetition_penalty != 1:
            row.seen = torch.zeros(self._vocabulary, dtype=torch.bool, device=self.model.device)
            row.seen[row.ids] = True
        twins = [
            Row(row.prompt, sample, row.ids.copy(), row.cached, None if row.seen is None else row.seen.clone())
            for sample in range(1, row.prompt.n)
        ]
        self._drawing += 1
        self._chooser = None
        for twin in twins:
            if self._drawing < len(self._rows):
                displaced = self._rows[self._drawing]
                self._cache.move(self._drawing, len(self._rows), displaced.cached)
                self._rows.append(displaced)
                self._rows[self._drawing] = twin
            else:
                self._rows.append(twin)
            self._cache.move(first, self._drawing, row.cached)
            self._drawing += 1

    def _remove(self, row: Row, keep: bool = True) -> None:
        """Take a row out; the last row of its kind closes the gap."""
        hole = self._rows.index(row)
        if keep and self._prefixes is not None and row.cached >= _WORTH_SHARING:
            size = row.cached * self._cache.token_bytes
            copy = self._cache.copy if self._waiting or len(self._rows) > 1 else self._cache.take
            with suppress(RuntimeError, MemoryError):  # what can't be kept is computed again
                self._prefixes.put(row.ids[: row.cached], size, lambda: copy(hole, row.cached))
        if hole < self._drawing:
            self._drawing -= 1
            self._chooser = None
            hole = self._fill(hole, self._drawing)
        self._fill(hole, len(self._rows) - 1)
        self._rows.pop()

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
        takes: dict[Row, int] = {}
        for behind, row in zip(range(len(queue) - 1, -1, -1), queue, strict=True):
            takes[row] = min(row.unread, (left + 1) // 2 if behind else left)
            left -= takes[row]
        for first, last in list(self._runs(takes)):
            self._forward_prompts(first, last, takes)
        for row in [row for row in queue if not row.unread]:
            self._ready(row)

    def _runs(self, takes: dict[Row, int]) -> Iterator[tuple[int, int]]:
        """Neighbouring rows that go through the model together, because padding costs less than another forward pass.

        A run starts where the least advanced of its rows stands: reading a few tokens twice changes nothing.
        """

        def cost(rows: Sequence[Row]) -> int:
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

    def _forward_prompts(self, first: int, last: int, takes: dict[Row, int]) -> None:
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
            result.append(Token(row.prompt.key, row.sample, chosen[i], chances[i], finish, row.prompt.reused, tops.get(i, ())))
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

    def _tops(self, rows: Sequence[Row], logits: Tensor) -> dict[int, tuple[tuple[int, float], ...]]:
        wanted = [i for i, row in enumerate(rows) if row.prompt.top]
        if not wanted:
            return {}
        most = min(max(rows[i].prompt.top for i in wanted), logits.shape[-1])
        best = logits[wanted].float().log_softmax(-1).topk(most, dim=-1)
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
