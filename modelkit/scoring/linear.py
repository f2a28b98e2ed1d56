"""Matrix products of linear layers by oneDNN on a CPU, in the same fp32.

torch takes fp32 products from MKL, which on processors of other makers than its own runs at about half of what oneDNN, also
built into torch, reaches (measured on an AMD EPYC with AVX-512, one thread: 90 against 210 GFLOP/s). Results differ in the last bits.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode


def fast_linear(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[Any]:
    """A context in which ``linear`` runs through oneDNN, where that is possible and not the case anyway. For inference only."""
    possible = device.type == "cpu" and dtype == torch.float32 and torch.backends.mkldnn.is_available()
    return _OneDNN() if possible and hasattr(torch.ops.mkldnn, "_linear_pointwise") else nullcontext()


class _OneDNN(TorchFunctionMode):
    """Redirects ``torch.nn.functional.linear``; every other function runs as it is."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is functional.linear and not kwargs and args[0].dtype == args[1].dtype == torch.float32:
            bias = args[2] if len(args) > 2 else None
            return torch.ops.mkldnn._linear_pointwise(args[0], args[1], bias, "none", [], "")
        return func(*args, **(kwargs or {}))
