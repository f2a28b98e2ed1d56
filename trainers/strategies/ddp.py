"""Replicated weights: every rank holds the whole model, gradients are summed once per step (``ddp``), states may be split (``zero1``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from trainers.strategies import Groups
from trainers.strategies.ranks import Ranks, in_buckets, shares
from trainers.strategies.tensors import own_state

R = TypeVar("R")


class DataParallel(Ranks):
    """``ddp``: the same weights everywhere. The sum of gradients waits for the last micro-batch, so accumulating sends nothing."""

    def __init__(self, device: torch.device, name: str = "ddp") -> None:
        super().__init__(name, device)

    def prepare(self, module: nn.Module, trainable: bool = True) -> None:
        module.to(self.device)
        with torch.no_grad():
            in_buckets([*module.parameters(), *module.buffers()], partial(dist.broadcast, src=0))

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

    def reduce_gradients(self, parameters: Sequence[nn.Parameter], divide_by: float) -> None:
        used = self.combine(torch.tensor([int(p.grad is not None) for p in parameters])).tolist()
        for parameter, ranks in zip(parameters, used, strict=True):
            if ranks and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [p.grad for p in parameters if p.grad is not None]
        in_buckets(gradients, dist.all_reduce)
        torch._foreach_div_(gradients, divide_by)

    def clip(self, parameters: Sequence[nn.Parameter], norm: float) -> float:
        return float(nn.utils.clip_grad_norm_(parameters, norm, foreach=True))

    def export(self, module: nn.Module) -> dict[str, Tensor]:
        return {name: tensor.detach().cpu() for name, tensor in own_state(module).items()} if self.rank == 0 else {}


class ZeroOne(DataParallel):
    """``zero1``: as ``ddp``, but each rank keeps the optimizer states of, and updates, a share of the weights, then sends them round.

    Weights are dealt out whole, which is why optimizers that look at a matrix as one, such as Muon, run here unchanged.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__(device, "zero1")

    def optimizer(
        self, modules: Sequence[nn.Module], groups: Groups, make: Callable[[Groups], torch.optim.Optimizer]
    ) -> torch.optim.Optimizer:
        parameters = [parameter for group in groups for parameter in group["params"]]
        parts = shares(range(len(parameters)), [parameter.numel() for parameter in parameters], self.world)
        mine = {parameters[i] for i in parts[self.rank]}
        optimizer = make([{**group, "params": [p for p in group["params"] if p in mine]} for group in groups])

        def send_round(*_: object) -> None:
            with torch.no_grad():
                for owner, part in enumerate(parts):
                    in_buckets([parameters[i] for i in part], partial(dist.broadcast, src=owner))

        optimizer.register_step_post_hook(send_round)
        return optimizer
