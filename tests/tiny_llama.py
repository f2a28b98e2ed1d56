"""The tiny LLaMA shape of the tests: a few ten thousand random weights, spread enough to have opinions."""

from __future__ import annotations

from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

_SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "tie_word_embeddings": True,
    "initializer_range": 0.2,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 3,
}


def config(vocabulary: int, **changes: Any) -> LlamaConfig:
    """The shape over *vocabulary* tokens, with *changes*."""
    return LlamaConfig(**{**_SHAPE, "vocab_size": vocabulary, **changes})


def language_model(vocabulary: int, seed: int = 0, **changes: Any) -> LlamaForCausalLM:
    """A language model of that shape, the same every time."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(config(vocabulary, **changes)).eval()
