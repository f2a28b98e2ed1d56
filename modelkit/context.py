"""How long a sequence may be: as a model was made for, and as it is served here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def longest_sequence(config: PretrainedConfig | Mapping[str, Any]) -> int | None:
    """How many tokens a model of this configuration was made to read at once; ``None`` where nothing says (ALiBi knows no end)."""
    names = ("max_position_embeddings", "n_positions")
    found = [config.get(name) if isinstance(config, Mapping) else getattr(config, name, None) for name in names]
    return next((int(length) for length in found if length), None)


def longest_served(config: PretrainedConfig) -> int | None:
    """The longest sequence that a model of this configuration is served with, in tokens; ``None`` where it has no limit of its own.

    It ends where positions do, and at the shortest sliding window: beyond that, layers would need masks of their own.
    """
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicSlidingWindowLayer

    windows = [layer.sliding_window for layer in DynamicCache(config=config).layers if isinstance(layer, DynamicSlidingWindowLayer)]
    return min((int(limit) for limit in (longest_sequence(config), *windows) if limit), default=None)
