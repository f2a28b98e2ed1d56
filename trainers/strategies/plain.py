"""One process on one device: the strategy that costs nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from trainers.strategies import Groups
from trainers.strategies import tensors as stored

R = TypeVar("R")


class Single:
    """Everything in one process."""

    name = "single"
    rank, world = 0, 1

    def __init__(self, device: torch.device | None = None) -> None:
        self.device = device or torch.device("cpu")

    def prepare(self, module: nn.Module, trainable: bool = True) -> None:
        module.to(self.device)

    def optimizer(
        self, modules: Sequence[nn.Module], groups: Groups, make: Callable[[Groups], torch.optim.Optimizer]
    ) -> torch.optim.Optimizer:
        return make(groups)

    def forward(self, module: nn.Module, function: Callable[..., R], *inputs: Any) -> R:
        return function(module, *inputs)

    def backward(self, loss: Tensor, module: nn.Module) -> None:
        loss.backward()

    def whole(self, *modules: nn.Module) -> AbstractContextManager[None]:
        return nullcontext()

    def share(self, indices: Sequence[int], costs: Sequence[int]) -> list[int]:
        return list(indices)

    def rounds(self, microbatches: int) -> int:
        return microbatches

    def sum(self, values: Sequence[float]) -> list[float]:
        return list(values)

    def combine(self, tensor: Tensor) -> Tensor:
        return tensor

    def reduce_gradients(self, parameters: Sequence[nn.Parameter], divide_by: float) -> None:
        if divide_by != 1.0:
            torch._foreach_div_([p.grad for p in parameters if p.grad is not None], divide_by)

    def clip(self, parameters: Sequence[nn.Parameter], norm: float) -> float:
        return float(nn.utils.clip_grad_norm_(parameters, norm, foreach=True))

    def forget_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        for parameter in parameters:
            parameter.grad = None

    def save_tensors(self, tensors: dict[str, Tensor], path: Path) -> None:
        stored.save_whole(tensors, path)

    def load_tensors(self, path: Path, place: stored.Place) -> dict[str, Tensor]:
        return stored.load(path, place)

    def export(self, module: nn.Module) -> dict[str, Tensor]:
        return {name: tensor.detach().cpu() for name, tensor in stored.own_state(module).items()}

    def barrier(self) -> None:
        pass
