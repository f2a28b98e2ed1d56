"""Saved tensors, read back by any strategy on any number of ranks."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor


@torch.no_grad()
def load(like: dict[str, Tensor], path: Path) -> None:
    """Fill the tensors of *like* from ``<path>.safetensors``."""
    from safetensors import safe_open

    with safe_open(path.with_name(f"{path.name}.safetensors"), "pt") as file:
        for name, tensor in like.items():
            tensor.copy_(file.get_tensor(name))
