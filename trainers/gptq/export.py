"""Quantised blocks → a checkpoint directory in the Hugging Face GPTQ layout, written whole or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from modelkit.gptq.load import OFFSETS
from modelkit.gptq.packing import Packed, pack, pack_zeros
from trainers.gptq.solver import Grid, Solution

SHARD_BYTES = 1 << 30
_COPIED = ("generation_config.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.model")
_NOTES = ("chat_template*", "reward_reference.json")
_QUANTIZER = "rlhf-playground:0.1.0"


def packed(solution: Solution, bits: int) -> Packed:
    """A solution as files and layers hold it."""
    return Packed(
        bits,
        pack(solution.codes.T.contiguous(), bits),
        solution.scales.T.contiguous(),
        solution.zeros.T.contiguous(),
        solution.groups.int(),
    )


def checkpoint_format(grid: Grid) -> str:
    """Version 1, which every reader knows; version 2 for asymmetric grids, which GPTQModel refuses in another's version 1."""
    return "gptq" if grid.sym else "gptq_v2"


def tensors_of(name: str, layer: Packed, grid: Grid, bias: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """A layer's tensors under the names of the layout."""
    tensors = {
        f"{name}.qweight": layer.qweight,
        f"{name}.qzeros": pack_zeros(layer.zeros, layer.bits, OFFSETS[checkpoint_format(grid)]),
        f"{name}.scales": layer.scales,
        f"{name}.g_idx": layer.g_idx,
    }
    return tensors if bias is None else {**tensors, f"{name}.bias": bias.half()}


def quantise_config(grid: Grid, damping: float, dense: list[str]) -> dict[str, Any]:
    """``quantize_config.json``. Linear layers left in 16 bits are named as negative ``dynamic`` rules, as GPTQModel has them."""
    return {
        "bits": grid.bits,
        "group_size": grid.group,
        "desc_act": grid.act_order,
        "static_groups": grid.static_groups,
        "sym": grid.sym,
        "lm_head": False,
        "true_sequential": True,
        "damp_percent": damping,
        "quant_method": "gptq",
        "checkpoint_format": checkpoint_format(grid),
        "pack_dtype": "int32",
        "meta": {"quantizer": [_QUANTIZER]},
        **({"dynamic": {f"-:^{name.replace('.', chr(92) + '.')}$": {} for name in dense}} if dense else {}),
    }


def write(folder: Path, source: Path, parts: list[Path], config: dict[str, Any], quantisation: dict[str, Any]) -> None:
    """Fill *folder*: weights from the files *parts* joined into shards of about a gigabyte, configs, tokenizer, template."""
    shards = list(_shards(parts))
    index: dict[str, str] = {}
    total = 0
    for i, group in enumerate(shards):
        name = "model.safetensors" if len(shards) == 1 else f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors"
        tensors = {key: tensor for part in group for key, tensor in load_file(part).items()}
        save_file(tensors, folder / name, metadata={"format": "pt"})
        index |= dict.fromkeys(tensors, name)
        total += sum(tensor.nbytes for tensor in tensors.values())
    if len(shards) > 1:
        _write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": index})
    _write_json(folder / "quantize_config.json", quantisation)
    _write_json(folder / "config.json", {**config, "dtype": "float16", "quantization_config": quantisation})
    for pattern in (*_COPIED, *_NOTES):
        for file in source.glob(pattern):
            if file.is_file():
                shutil.copyfile(file, folder / file.name)


def _shards(parts: list[Path]) -> Iterator[list[Path]]:
    group: list[Path] = []
    size = 0
    for part in parts:
        if group and size + part.stat().st_size > SHARD_BYTES:
            yield group
            group, size = [], 0
        group.append(part)
        size += part.stat().st_size
    yield group


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
