"""A small bilingual language model with trained weights, for benchmarks that random ones would not do for.

Pretrained on wikitext-2's validation set, the first nine tenths of Hongloumeng and Stanford Alpaca (1.6 million tokens), and kept for
the next time.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from modelkit import checkpoint
from modelkit.checkpoint import StageInfo
from modelkit.linear import fast_linear
from trainers import tokenizer as tokenizers

CONTEXT = 256
VOCABULARY = 6144
BATCH = 16


@dataclass(frozen=True)
class Texts:
    """Training text, and held-out text by language."""

    training: list[str]
    held_out: dict[str, str]


def texts(data: Path) -> Texts:
    """The texts in a folder that holds ``wikitext-2``, ``hongloumeng`` and ``stanford-alpaca``."""
    novel = (data / "hongloumeng/input.txt").read_text(encoding="utf-8")
    cut = len(novel) * 9 // 10
    rows = json.loads((data / "stanford-alpaca/data/alpaca_5000.json").read_text(encoding="utf-8"))
    alpaca = "\n".join("\n".join(part for part in (row["instruction"], row["input"], row["output"]) if part) for row in rows)
    wiki = {part: (data / f"wikitext-2/wikitext-2/{part}.txt").read_text(encoding="utf-8") for part in ("valid", "test")}
    return Texts([wiki["valid"], novel[:cut], alpaca], {"English": wiki["test"], "Chinese": novel[cut:]})


def pretrained(cache: Path, data: Path, steps: int) -> Path:
    """The checkpoint in *cache*, trained for *steps* of 4,096 tokens when it isn't there yet. 6.7 M parameters, LLaMA-shaped."""
    path = cache / "bilingual"
    if path.exists():
        return path
    training = texts(data).training
    lines = [line for text in training for line in text.splitlines() if line.strip()]
    tokenizer, _ = tokenizers.train(lines, VOCABULARY, CONTEXT)
    stream = torch.tensor([token for text in training for token in tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]])
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=256,
            intermediate_size=768,
            num_hidden_layers=6,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    matrices = [p for name, p in model.named_parameters() if p.dim() == 2 and "embed" not in name]
    rest = [p for name, p in model.named_parameters() if p.dim() < 2 or "embed" in name]
    optimisers = [
        torch.optim.Muon(matrices, lr=0.01, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=3e-3, betas=(0.9, 0.98), fused=True),
    ]
    peaks = [group["lr"] for optimiser in optimisers for group in optimiser.param_groups]
    started, loss_value = time.time(), math.nan
    for step in range(1, steps + 1):
        share = min(1.0, step / 20) * (0.05 + 0.95 * min(1.0, 2.5 * (1 - step / steps)))
        for group, peak in zip((g for optimiser in optimisers for g in optimiser.param_groups), peaks, strict=True):
            group["lr"] = peak * share
        at = torch.randint(len(stream) - CONTEXT, (BATCH,))
        batch = stream[at[:, None] + torch.arange(CONTEXT)]
        with fast_linear(batch.device, torch.float32):
            loss = model(input_ids=batch, labels=batch, use_cache=False).loss
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad()
        loss_value = float(loss.detach())
        if step % 20 == 0:
            print(f"step {step}  loss {loss_value:.3f}  {step * BATCH * CONTEXT / (time.time() - started):,.0f} tokens/s", flush=True)
    stage = StageInfo(
        stage="base", steps=steps, tokens=steps * BATCH * CONTEXT, seconds=time.time() - started, metrics={"loss": loss_value}
    )
    checkpoint.save(model, tokenizer, path, stage)
    return path
