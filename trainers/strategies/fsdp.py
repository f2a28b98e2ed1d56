"""Sharded weights through torch's FSDP2: ``zero2``, ``zero3`` and ``zero3_offload``."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
    register_fsdp_forward_method,
)

from trainers.strategies import Groups
from trainers.strategies.ranks import Ranks
from trainers.strategies.tensors import own_state

R = TypeVar("R")


class FullySharded(Ranks):
    """Every rank keeps a slice of each weight, its gradient and its optimizer states; layers are put together when they run.

    ``zero2`` keeps them together from the forward to the backward pass, ``zero3`` takes them apart in between (a third more to
    send, the weights' memory divided by the ranks), ``zero3_offload`` keeps the slices in the machine's memory.

    :param dtype: what passes compute in; slices, sums of gradients and updates are in the weights' own dtype.
    """

    def __init__(self, name: str, device: torch.device, dtype: torch.dtype | None = None) -> None:
        super().__init__(name, device)
        self._mesh = init_device_mesh(device.type, (self.world,))
        self._reshard = name != "zero2"
        self._precision = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32 if dtype else None)
        offload = name == "zero3_offload"
        self._offload = CPUOffloadPolicy(pin_memory=device.type == "cuda") if offload else OffloadPolicy()

    def prepare(self, module: nn.Module, trainable: bool = True) -> None:
        # each call moves no more than what it shards, so that a model may be larger than the device
        for layer in _layers(module):
            self._shard(layer, self._reshard)
        self._shard(module, False)
        if not isinstance(self._offload, CPUOffloadPolicy):
            module.to(self.device)
        module.in_one_pass = types.MethodType(_in_one_pass, module)  # type: ignore[assignment]
        register_fsdp_forward_method(module, "in_one_pass")
        # whichever module runs first would take itself for the root
        with torch.no_grad():
            self.forward(module, lambda root: None)

    def _shard(self, module: nn.Module, reshard: bool) -> None:
        sharded = fully_shard(
            module, mesh=self._mesh, reshard_after_forward=reshard, mp_policy=self._precision, offload_policy=self._offload
        )
        sharded.set_gradient_divide_factor(1.0)
        sharded.set_force_sum_reduction_for_comms(True)

    def optimizer(
        self, modules: Sequence[nn.Module], groups: Groups, make: Callable[[Groups], torch.optim.Optimizer]
    ) -> torch.optim.Optimizer:
        return make(groups)

    def forward(self, module: nn.Module, function: Callable[..., R], *inputs: Any) -> R:
        one_pass: Any = module.in_one_pass
        result = one_pass(lambda: function(module, *inputs))
        if not torch.is_grad_enabled():
            # without a backward pass nobody takes them apart again, and the next update would not reach them
            _take_apart(module)
        return result

    def backward(self, loss: Tensor, module: nn.Module) -> None:
        loss.backward()

    @contextmanager
    def whole(self, *modules: nn.Module) -> Iterator[None]:
        for module in modules:
            for part in _sharded(module):
                part.set_reshard_after_forward(False, recurse=False)
                part.unshard()
        try:
            yield
        finally:
            for module in modules:
                for part in _sharded(module):
                    part.set_reshard_after_forward(self._reshard and part is not module, recurse=False)
                _take_apart(module)

    def reduce_gradients(self, parameters: Sequence[nn.Parameter], divide_by: float) -> None:
        if divide_by != 1.0:
            torch._foreach_div_([p.grad for p in parameters if p.grad is not None], divide_by)

    def clip(self, parameters: Sequence[nn.Parameter], norm: float) -> float:
        total: Any = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None], foreach=True)
        whole = total.full_tensor()
        nn.utils.clip_grads_with_norm_(parameters, norm, whole, foreach=True)
        return float(whole)

    def export(self, module: nn.Module) -> dict[str, Tensor]:
        whole: dict[str, Any] = get_model_state_dict(module, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
        return {name: whole[name] for name in own_state(module)} if self.rank == 0 else {}


def _in_one_pass(module: nn.Module, work: Callable[[], R]) -> R:
    return work()


def _layers(module: nn.Module) -> list[nn.Module]:
    """The blocks a transformer repeats, which are put together one at a time."""
    names = set(getattr(module, "_no_split_modules", None) or ())
    return [part for part in module.modules() if type(part).__name__ in names]


def _sharded(module: nn.Module) -> list[FSDPModule]:
    return [part for part in module.modules() if isinstance(part, FSDPModule)]


def _take_apart(module: nn.Module) -> None:
    for part in _sharded(module):
        part.reshard()
