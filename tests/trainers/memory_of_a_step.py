"""Print the parameters and the peak memory (bytes above what the process had) of SFT steps of a LLaMA of 58 million parameters."""

from __future__ import annotations

import gc
import json
import sys
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from trainers.data.dataset import Example
from trainers.recipe import SftStage
from trainers.sft import LanguageModelling

SHAPE: dict[str, Any] = {
    "hidden_size": 512,
    "intermediate_size": 1376,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "vocab_size": 32000,
}
SMALL: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 100}
TOKENS, LENGTH = 2048, 256


def train(shape: dict[str, Any], tokens: int, length: int, micro_tokens: int) -> int:
    model = LlamaForCausalLM(LlamaConfig(**shape))
    rows = [Example([5] * length, [False] + [True] * (length - 1)) for _ in range(2 * tokens // length)]
    settings = SftStage(data=[], steps=2, lr=1e-4, tokens=tokens, micro_tokens=micro_tokens)
    stage = LanguageModelling("sft", model, PreTrainedTokenizerFast.__new__(PreTrainedTokenizerFast), rows, [], [], settings, 0)
    stage.begin(0)
    for step in range(2):
        stage.step(step)
    return sum(parameter.numel() for parameter in model.parameters())


def memory(field: str) -> int:
    with open("/proc/self/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(field))


def main() -> None:
    torch.set_num_threads(1)
    train(SMALL, 64, 16, 64)  # what libraries need once is no part of a step
    gc.collect()
    with open("/proc/self/clear_refs", "w", encoding="utf-8") as file:
        file.write("5")
    before = memory("VmRSS")
    parameters = train(SHAPE, TOKENS, LENGTH, int(sys.argv[1]))
    print(json.dumps({"parameters": parameters, "peak": memory("VmHWM") - before}))


if __name__ == "__main__":
    main()
