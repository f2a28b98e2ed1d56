"""Matrix products of linear layers by oneDNN on a CPU, in the same fp32, with their gradients.

torch takes fp32 products from MKL, which on processors of other makers than its own runs at about half of what oneDNN, also
built into torch, reaches (measured on an AMD EPYC with AVX-512, one thread: 100 against 225 GFLOP/s; 100 against 175 for a weight's
gradient). Results differ in the last bits.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack

_WORTH = 2**28
"""Floating-point operations below which a product is left to MKL: oneDNN compiles one for every new shape, which takes about 0.4 ms."""


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


class _OneDNN(TorchFunctionMode):
    """Redirects ``torch.nn.functional.linear``; every other function runs as it is."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is functional.linear and not kwargs and _fits(args[0], args[1]):
            bias = args[2] if len(args) > 2 else None
            if torch.is_grad_enabled():
                return _Linear.apply(args[0], args[1], bias)
            return _product(args[0], args[1], bias)
        return func(*args, **(kwargs or {}))


def _fits(inputs: Tensor, weight: Tensor) -> bool:
    plain = type(inputs) is Tensor and type(weight) in (Tensor, torch.nn.Parameter)
    return plain and inputs.dtype == weight.dtype == torch.float32 and 2 * inputs.numel() * weight.shape[0] >= _WORTH


def _product(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``inputs @ weight.T + bias``."""
    return torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], "")


class _Linear(torch.autograd.Function):
    """``y = x Wᵀ + b``, whose gradients ``g W``, ``gᵀ x`` and ``Σ g`` are such products themselves."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        return _product(inputs, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        inputs, weight = ctx.saved_tensors
        rows = grad.reshape(-1, grad.shape[-1])
        to_inputs = _product(grad, weight.t()) if ctx.needs_input_grad[0] else None
        to_weight = _product(rows.t(), inputs.reshape(-1, inputs.shape[-1]).t()) if ctx.needs_input_grad[1] else None
        return to_inputs, to_weight, rows.sum(0) if ctx.needs_input_grad[2] else None
