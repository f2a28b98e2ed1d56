"""How much memory a checkpoint's weights take once they are loaded: foretold by the headers of its files, and counted."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelkit import adapter, checkpoint
from modelkit.weights import read_header, weight_files

if TYPE_CHECKING:
    import torch
    from torch import nn

_KEPT = (".qweight", ".qzeros", ".scales", ".g_idx")
"""The parts of a GPTQ layer, which stay about as large as they are in the file."""


def expected(path: Path, dtype: torch.dtype | None = None, packed_on: torch.device | None = None) -> int:
    """Bytes that :func:`modelkit.checkpoint.load_model` needs for a checkpoint's weights in *dtype*: exact, for GPTQ within a tenth.

    An adapter counts as what it and its base are loaded as, before they are merged and brought to *dtype*.

    :param packed_on: the device on which :func:`modelkit.linear.pack` follows, which gives an output layer that shares the embeddings'
        weight one of its own.
    :raises ModelError: when the checkpoint isn't whole.
    """
    import torch

    from modelkit.gptq.load import quantisation_of
    from modelkit.linear import is_packed

    if adapter.is_adapter(path):
        own, _ = read_header(adapter.weights_of(path))
        return _bytes(own, torch.float32) + expected(adapter.base_of(path), packed_on=packed_on)
    config = checkpoint.check(path)
    usual = torch.bfloat16 if quantisation_of(path, config) else torch.float32
    tensors: dict[str, Any] = {}
    for file in weight_files(path):
        tensors |= read_header(file)[0]
    total = _bytes(tensors, dtype or usual)
    if packed_on is not None:
        vocabulary = (config.get("text_config") or config).get("vocab_size")
        by_token = [math.prod(entry["shape"]) for entry in tensors.values() if len(entry["shape"]) == 2 and entry["shape"][0] == vocabulary]
        if len(by_token) == 1 and is_packed(by_token[0], dtype or usual, packed_on):  # embeddings and output layer are one
            total += by_token[0] * (dtype or usual).itemsize
    return total


def held(model: nn.Module) -> int:
    """Bytes of a model's parameters and buffers; what is shared counts once."""
    return sum(tensor.numel() * tensor.element_size() for tensors in (model.parameters(), model.buffers()) for tensor in tensors)


def _bytes(tensors: dict[str, Any], dtype: torch.dtype) -> int:
    """Of tensors described as in a file's header, once floating-point ones are in *dtype*."""
    total = 0
    for name, entry in tensors.items():
        start, end = entry["data_offsets"]
        converted = entry["dtype"].startswith(("F", "BF")) and not name.endswith(_KEPT)
        total += math.prod(entry["shape"]) * dtype.itemsize if converted else end - start
    return total
