"""The linear layer of a GPTQ checkpoint: torch's int4 kernel for few rows, dequantise-then-multiply for many, gradients to its input."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from modelkit.gptq.packing import Packed
from modelkit.gptq.storage import Storage, store

KERNEL_ROWS = 64
"""Up to this many rows go through the int4 kernel (measured: docs/gptq.md)."""


class GPTQLinear(nn.Linear):
    """``y = x Wᵀ + b`` with a frozen quantised W.

    Few rows (a decode step) read the 4-bit weight directly; more of them (a prompt, a scoring batch) dequantise it a piece at a time
    and use the ordinary product in the input's dtype. The two differ by the kernel's bf16 arithmetic, so a caller whose numbers
    must not depend on the batch sets ``kernel_rows`` to 0 (:func:`always_dequantise`). Where a gradient is asked for, the weight
    is dequantised too, and once more on the way back: it is never kept in full.

    It is a ``Linear`` by type, so that PEFT puts adapters on it as on any other, but has no ``weight``.
    """

    def __init__(self, packed: Packed, bias: torch.Tensor | None = None) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features, self.bits = packed.in_features, packed.out_features, packed.bits
        self.register_parameter("weight", None)
        self.register_parameter("bias", None if bias is None else nn.Parameter(bias, requires_grad=False))
        self.storage: Storage = store(packed)
        self.kernel_rows = KERNEL_ROWS if self.storage.kernel else 0

    @property
    def qweight(self) -> torch.Tensor:
        """The packed weight (which adapters look for to learn the device)."""
        return self.storage.qweight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.reshape(-1, self.in_features)
        if self.storage.order is not None:
            rows = rows.index_select(1, self.storage.order)
        if torch.is_grad_enabled() and rows.requires_grad:
            y = _FrozenProduct.apply(rows, self.storage)
        elif len(rows) <= self.kernel_rows:
            y = self.storage.matmul(rows)
        else:
            y = _product(rows, self.storage)
        return (y if self.bias is None else y + self.bias).view(*x.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bits={self.bits}, bias={self.bias is not None}"


def always_dequantise(model: nn.Module) -> None:
    """Make a model's answers independent of how many rows are computed together. Nothing changes for an unquantised model."""
    for module in model.modules():
        if isinstance(module, GPTQLinear):
            module.kernel_rows = 0


@contextmanager
def dequantised(model: nn.Module) -> Iterator[None]:
    """The same while the block runs, for a model that also writes, which the kernel does faster."""
    before = {module: module.kernel_rows for module in model.modules() if isinstance(module, GPTQLinear)}
    always_dequantise(model)
    try:
        yield
    finally:
        for module, rows in before.items():
            module.kernel_rows = rows


def _product(x: torch.Tensor, storage: Storage) -> torch.Tensor:
    """x [M, K] · Wᵀ, dequantising a range of outputs at a time."""
    y = x.new_empty(len(x), storage.out_features)
    for start, stop in storage.chunks():
        y[:, start:stop] = functional.linear(x, storage.dequantise(start, stop, x.dtype).T)
    return y


class _FrozenProduct(torch.autograd.Function):
    """The product with a gradient for x only; nothing but the packed weight is kept for the way back."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, storage: Storage) -> torch.Tensor:
        ctx.storage = storage
        return _product(x, storage)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        storage, gradient = ctx.storage, gradients[0]
        result = gradient.new_zeros(len(gradient), storage.in_features)
        for start, stop in storage.chunks():
            result.addmm_(gradient[:, start:stop], storage.dequantise(start, stop, gradient.dtype).T)
        return result, None
