"""Keys and values of a shared beginning, held once, seen by every line of a batch."""

from __future__ import annotations

import torch
from transformers import Cache, DynamicLayer

KeysValues = list[tuple[torch.Tensor, torch.Tensor]]
"""By layer, keys and values, each [1, heads, tokens, size of a head]."""


class SharedPrefix(Cache):
    """A cache for one forward pass. Each layer gets the prefix's keys and values in front of its own and stores nothing, unless *keep*.

    :param prefix: the beginning that all lines share; empty for none.
    :param keep: whether :attr:`kept` shall hold prefix and own keys and values afterwards, as the prefix of passes to come.
    """

    def __init__(self, prefix: KeysValues, keep: bool = False) -> None:
        super().__init__(layer_class_to_replicate=DynamicLayer)
        self.prefix, self.keep = prefix, keep
        self.kept: KeysValues = []

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values that this layer attends to."""
        if self.prefix:
            lines = len(key_states)
            keys, values = self.prefix[layer_idx]
            key_states = torch.cat([keys.expand(lines, -1, -1, -1), key_states], dim=2)
            value_states = torch.cat([values.expand(lines, -1, -1, -1), value_states], dim=2)
        if self.keep:
            self.kept.append((key_states, value_states))
        return key_states, value_states

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens of the prefix."""
        return self.prefix[0][0].shape[2] if self.prefix else 0

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        """(tokens attended to, offset of the first)."""
        return self.get_seq_length() + query_length, 0
