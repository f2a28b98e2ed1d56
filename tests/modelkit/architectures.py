"""Tiny random language models of several architectures, large enough in their weights for a misplaced token to show."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

VOCABULARY = 97
SHAREABLE = ["llama", "llama-mha", "llama-mqa", "gpt2", "bloom", "opt", "gpt_neox", "qwen2", "qwen3", "mistral", "gemma2"]

_SMALL: dict[str, Any] = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
_NO_SPECIAL: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 1}
_GATED: dict[str, Any] = {**_SMALL, **_NO_SPECIAL, "intermediate_size": 48, "initializer_range": 0.3}


def tiny(name: str) -> PreTrainedModel:
    """The model of this name, the same every time."""
    torch.manual_seed(0)
    return _make(name).eval()


def _make(name: str) -> PreTrainedModel:
    if name.startswith("llama"):
        heads = {"llama": 2, "llama-mha": 4, "llama-mqa": 1}[name]
        return LlamaForCausalLM(LlamaConfig(**_GATED, num_key_value_heads=heads))
    if name == "gpt2":
        return GPT2LMHeadModel(
            GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=256, initializer_range=0.3, **_NO_SPECIAL)
        )
    if name == "bloom":
        return BloomForCausalLM(
            BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=4, initializer_range=0.3, **_NO_SPECIAL)
        )
    if name == "opt":
        return OPTForCausalLM(
            OPTConfig(**_SMALL, **_NO_SPECIAL, ffn_dim=48, max_position_embeddings=256, word_embed_proj_dim=32, init_std=0.3)
        )
    if name == "gpt_neox":
        return GPTNeoXForCausalLM(GPTNeoXConfig(**_GATED))
    if name == "qwen2":
        return Qwen2ForCausalLM(Qwen2Config(**_GATED, num_key_value_heads=2))
    if name == "qwen3":
        return Qwen3ForCausalLM(Qwen3Config(**_GATED, num_key_value_heads=2, head_dim=8))
    if name == "mistral":
        return MistralForCausalLM(MistralConfig(**_GATED, num_key_value_heads=2, sliding_window=64))
    if name == "gemma2":
        return Gemma2ForCausalLM(Gemma2Config(**_GATED, num_key_value_heads=2, head_dim=8, final_logit_softcapping=2.0, sliding_window=64))
    if name == "mamba":
        return MambaForCausalLM(
            MambaConfig(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, state_size=8, initializer_range=0.3)
        )
    raise KeyError(name)
