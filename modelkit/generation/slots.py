"""The keys and values of many sequences in fixed slots of one tensor per layer: what the model's own cache becomes in the engine.

A sequence lies in one row, its token *i* in column *i*, so that columns are positions, rows of any length can share a step, and a
step writes in place instead of copying the cache. Unused columns hold zeros or leftovers, always finite, which the mask hides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from modelkit.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_COLUMNS, _ODD = 64, 4
"""Columns are added by so many at a time; a few more keep rows from lying a power of two apart, where they would share cache sets."""

Lines = list[tuple[Tensor, Tensor]]
"""Keys and values of one sequence, one pair per layer, each [heads, length, head size]."""


@dataclass
class _View:
    """What the next forward pass sees: rows *first* to *last*, columns up to *end*, and where each row's new tokens go.

    All rows write from column *start* on; or, where *columns* is given, row *i* writes its single token to ``columns[i]``.
    """

    first: int = 0
    last: int = 0
    start: int = 0
    end: int = 0
    columns: Tensor | None = None
    rows: Tensor | None = None


class _SlotLayer(DynamicLayer):
    """One layer's keys and values, [rows, heads, columns, head size]."""

    keys: Tensor
    values: Tensor

    def __init__(self, cache: SlotCache) -> None:
        super().__init__()
        self._cache = cache

    def fit(self, rows: int, columns: int) -> None:
        """Have so many rows and columns, keeping what lies in them. Safe to repeat after a failure."""
        for name in ("keys", "values") if self.is_initialized else ():
            old = getattr(self, name)
            if (old.shape[0], old.shape[2]) != (rows, columns):
                new = old.new_zeros(rows, old.shape[1], columns, old.shape[3])
                kept = old[:rows, :, :columns]
                new[: kept.shape[0], :, : kept.shape[2]] = kept
                setattr(self, name, new)

    def release(self) -> None:
        """Give the memory back; the next forward pass takes it anew."""
        self.keys = self.values = torch.empty(0)
        self.is_initialized = False

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        def room(states: Tensor) -> Tensor:
            return states.new_zeros(self._cache.rows, states.shape[1], self._cache.columns, states.shape[3])

        self.dtype, self.device = key_states.dtype, key_states.device
        self.keys, self.values = room(key_states), room(value_states)
        self.is_initialized = True
        self._cache.weigh()

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        view = self._cache.view
        if view.columns is None:
            self.keys[view.first : view.last, :, view.start : view.end] = key_states
            self.values[view.first : view.last, :, view.start : view.end] = value_states
        else:
            self.keys[view.rows, :, view.columns] = key_states[:, :, 0]
            self.values[view.rows, :, view.columns] = value_states[:, :, 0]
        return self.keys[view.first : view.last, :, : view.end], self.values[view.first : view.last, :, : view.end]

    def get_seq_length(self) -> int:
        return self._cache.view.start

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._cache.view.end, 0


class SlotCache(Cache):
    """A cache of *rows* × *columns* tokens, which grows by :meth:`fit`. It takes no memory before the first forward pass.

    :param limit_bytes: what it is to keep to; asking :meth:`longest` before :meth:`fit` does that.
    :raises UserError: for a model whose layers keep something else than keys and values.
    """

    def __init__(self, model: PreTrainedModel, limit_bytes: int | None = None) -> None:
        usual = DynamicCache(config=model.config).layers
        if not usual or any(type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer) for layer in usual):
            raise UserError(f"models of type {model.config.model_type} keep more than keys and values, so they can't generate here.")
        shape: Any = model.config.get_text_config(decoder=True)
        size = getattr(shape, "head_dim", None) or shape.hidden_size // shape.num_attention_heads
        heads = getattr(shape, "num_key_value_heads", None) or shape.num_attention_heads
        self.token_bytes = 2 * len(usual) * heads * size * model.dtype.itemsize
        """Bytes per token of one sequence: as the configuration has it until every layer has shown its own."""
        self._limit = limit_bytes
        self.rows = self.columns = 0
        self.view = _View()
        super().__init__(layers=[_SlotLayer(self) for _ in usual])

    def longest(self, rows: int) -> int | None:
        """How many columns so many rows may have; ``None`` without a limit."""
        if self._limit is None:
            return None
        return max(0, (self._limit // (rows * self.token_bytes) - _ODD) // _COLUMNS * _COLUMNS)

    def fit(self, rows: int, columns: int) -> None:
        """Make room for so many rows and columns. What there was beyond them stays as long as that is within the limit."""
        columns = -(-columns // _COLUMNS) * _COLUMNS + _ODD
        most_rows, most_columns = max(rows, self.rows), max(columns, self.columns)
        if self._limit is None or most_rows * most_columns * self.token_bytes <= self._limit:
            rows, columns = most_rows, most_columns
        for layer in self._slots():
            layer.fit(rows, columns)
        self.rows, self.columns = rows, columns

    def release(self) -> None:
        """Give all memory back."""
        self.rows = self.columns = 0
        for layer in self._slots():
            layer.release()

    def read(self, first: int, last: int, start: int, end: int) -> None:
        """The next forward pass brings tokens *start* to *end* of rows *first* to *last*."""
        self.view = _View(first, last, start, end)

    def advance(self, lengths: list[int], columns: Tensor) -> None:
        """The next forward pass brings one token for each of the first rows, whose *lengths* so far are also in *columns*."""
        end = max(lengths) + 1
        even = min(lengths) == end - 1
        rows = None if even else torch.arange(len(lengths), device=columns.device)
        self.view = _View(0, len(lengths), end - 1, end, None if even else columns, rows)

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first *length* tokens of a row over another row."""
        for layer in self._slots():
            if layer.is_initialized:
                layer.keys[target, :, :length] = layer.keys[source, :, :length]
                layer.values[target, :, :length] = layer.values[source, :, :length]

    def copy(self, row: int, length: int) -> Lines:
        """The first *length* tokens of a row."""
        return [(layer.keys[row, :, :length].clone(), layer.values[row, :, :length].clone()) for layer in self._slots()]

    def take(self, row: int, length: int) -> Lines:
        """The same, and give all memory back, each layer's as soon as it is copied."""
        lines: Lines = []
        try:
            for layer in self._slots():
                lines.append((layer.keys[row, :, :length].clone(), layer.values[row, :, :length].clone()))
                layer.release()
        finally:
            self.release()
        return lines

    def paste(self, row: int, lines: Lines, length: int) -> None:
        """Put the first *length* tokens of *lines* into a row."""
        for layer, (keys, values) in zip(self._slots(), lines, strict=True):
            if not layer.is_initialized:
                layer.lazy_initialization(keys[None], values[None])
            layer.keys[row, :, :length] = keys[:, :length]
            layer.values[row, :, :length] = values[:, :length]

    def weigh(self) -> None:
        """Learn what a token takes, once every layer has keys and values."""
        if all(layer.is_initialized for layer in self._slots()):
            tensors = [tensor for layer in self._slots() for tensor in (layer.keys, layer.values)]
            self.token_bytes = sum(tensor.shape[1] * tensor.shape[3] * tensor.element_size() for tensor in tensors)

    @property
    def bytes(self) -> int:
        """What keys and values take at present."""
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in self._slots() if layer.is_initialized)

    def _slots(self) -> list[_SlotLayer]:
        return self.layers  # type: ignore[return-value]
