"""A tiny random model with a real tokenizer and chat template, as the pocket recipe makes them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from modelkit import checkpoint
from modelkit.checkpoint import StageInfo
from tests.tiny_llama import language_model
from trainers import tokenizer as tokenizers
from trainers.reward import from_language_model

TEXTS = [
    "The capital of France is Paris.",
    "法国的首都是巴黎。",
    "What is the capital of Spain?",
    "西班牙的首都是哪里？",
    "Answer: A\nB. C. D.",
    "😀 ok",
]


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return tokenizers.train(TEXTS * 4, 400, 128)[0]


@pytest.fixture(scope="session")
def model(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    return language_model(len(tokenizer))


@pytest.fixture(scope="session")
def saved(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language-model checkpoint; tests that damage one copy it first."""
    path = tmp_path_factory.mktemp("checkpoints") / "sft"
    checkpoint.save(model, tokenizer, path, StageInfo(stage="sft", steps=3, metrics={"loss": 1.5}))
    return path


@pytest.fixture(scope="session")
def reward_checkpoint(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("checkpoints") / "rm"
    checkpoint.save(from_language_model(model, tokenizer), tokenizer, path, StageInfo(stage="rm"))
    return path
