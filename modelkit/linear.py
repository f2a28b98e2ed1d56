"""Matrix products of linear layers by oneDNN on a CPU, in the same fp32, with their gradients.

torch takes fp32 products from MKL, which on processors of other makers than its own runs at about half of what oneDNN, also
built into torch, reaches (measured on an AMD EPYC with AVX-512, one thread: 100 against 225 GFLOP/s; 100 against 175 for a weight's
gradient). For the few rows of a decode step either is slow, oneDNN because it lays the weight out anew every time: a model that only
answers has that done once, by :func:`pack`. Results differ in the last bits.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack

_WORTH = 2**23
"""Floating-point operations below which a product is left to MKL, which is then as fast."""
_STEPS = 8
"""Row counts are rounded up to this many different ones between two powers of two: oneDNN compiles a product for every new shape, which
takes about 0.4 ms and 1 MB, and batches of text come in all sizes."""
_LONG = 2**28
"""Floating-point operations from which a product of training, with its two gradients, costs more by added rows than by compiling."""
_LARGE = 2**18
"""Weights below which a layer is not worth packing: it stays in the processor's cache, where MKL is as fast."""
_PACKED_ROWS = 8
"""Rows that a packed layout is chosen for; it serves others as well."""


def fast_linear(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[Any]:
    """A context in which ``linear`` runs through oneDNN, where that is possible and not the case anyway. Differentiable once."""
    possible = device.type == "cpu" and dtype == torch.float32 and torch.backends.mkldnn.is_available()
    return _OneDNN() if possible and hasattr(torch.ops.mkldnn, "_linear_pointwise") else nullcontext()


def when_recomputed() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """``context_fn`` of ``torch.utils.checkpoint``: a layer is computed again, in the backward pass, as it is being computed now.

    The backward pass doesn't see the contexts around it, and another product would save other tensors than were asked for.
    """
    active = any(isinstance(mode, _OneDNN) for mode in _get_current_function_mode_stack())
    return nullcontext(), _OneDNN() if active else nullcontext()


class PackedLinear(nn.Linear):
    """``y = x Wᵀ + b`` with a frozen weight on the CPU, in the order in which oneDNN reads it, which nothing else can."""

    def __init__(self, layer: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        laid_out = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), _PACKED_ROWS)
        self.weight = nn.Parameter(laid_out, requires_grad=False)
        self.register_parameter("bias", layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        return _shaped(_product(_padded_rows(x), self.weight, self.bias), x.shape)


def pack(model: nn.Module) -> None:
    """Pack every large linear layer, in fp32 or bf16, of a model on the CPU that will not be trained, saved or moved any more.

    A weight that is shared with the embeddings stays beside its packed copy; others are held once.
    """
    for path in [path for path, layer in model.named_modules() if type(layer) is nn.Linear]:
        layer: Any = model.get_submodule(path)
        if is_packed(layer.weight.numel(), layer.weight.dtype, layer.weight.device):
            model.set_submodule(path, PackedLinear(layer))


def is_packed(count: int, dtype: torch.dtype, device: torch.device) -> bool:
    """Whether :func:`pack` packs a linear layer with so many weights."""
    if not hasattr(torch.ops.mkldnn, "_reorder_linear_weight") or not torch.backends.mkldnn.is_available():
        return False
    possible = dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return possible and count >= _LARGE and device.type == "cpu"


class _OneDNN(TorchFunctionMode):
    """Redirects ``torch.nn.functional.linear``; every other function runs as it is."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is functional.linear and not kwargs and _fits(args[0], args[1]):
            bias = args[2] if len(args) > 2 else None
            if torch.is_grad_enabled():
                return _Linear.apply(args[0], args[1], bias)
            return _shaped(_product(_padded_rows(args[0]), args[1], bias), args[0].shape)
        return func(*args, **(kwargs or {}))


def _fits(inputs: Tensor, weight: Tensor) -> bool:
    plain = type(inputs) is Tensor and type(weight) in (Tensor, torch.nn.Parameter)
    return plain and inputs.dtype == weight.dtype == torch.float32 and 2 * inputs.numel() * weight.shape[0] >= _WORTH


def _product(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``inputs @ weight.T + bias``."""
    return torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], "")


def _rounded(count: int) -> int:
    """*count* rounded up to a multiple of an eighth of the power of two below it."""
    step = max(1, (1 << count.bit_length() - 1) // _STEPS)
    return -(-count // step) * step


def _padded_rows(inputs: Tensor) -> Tensor:
    """[…, features] as [rows, features], with rows of zeros at the end up to a rounded count."""
    rows = inputs.reshape(-1, inputs.shape[-1])
    count = _rounded(len(rows))
    if count == len(rows):
        return rows
    padded = rows.new_empty(count, rows.shape[1])  # functional.pad would write it all twice
    padded[: len(rows)], padded[len(rows) :] = rows, 0
    return padded


def _training_rows(inputs: Tensor, weight: Tensor) -> Tensor:
    """[…, features] as [rows, features]: padded for a product with *weight* that is short, as they are for a long one."""
    rows = inputs.reshape(-1, inputs.shape[-1])
    return rows if 2 * len(rows) * weight.numel() >= _LONG else _padded_rows(rows)


class _Linear(torch.autograd.Function):
    """``y = x Wᵀ + b``, whose gradients ``g W``, ``gᵀ x`` and ``Σ g`` are such products themselves."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        rows = _training_rows(inputs, weight)
        ctx.save_for_backward(rows, weight)
        ctx.shape = inputs.shape
        return _shaped(_product(rows, weight, bias), inputs.shape)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        inputs, weight = ctx.saved_tensors
        rows = _training_rows(grad, weight)
        to_inputs = _shaped(_product(rows, weight.t()), ctx.shape) if ctx.needs_input_grad[0] else None
        to_weight = _product(rows.t(), inputs.t()) if ctx.needs_input_grad[1] else None
        return to_inputs, to_weight, rows.sum(0) if ctx.needs_input_grad[2] else None


def _shaped(rows: Tensor, like: torch.Size) -> Tensor:
    """[rows, features], without the rows that were added, in the shape of what they were made of."""
    return rows[: like[:-1].numel()].view(*like[:-1], rows.shape[-1])
