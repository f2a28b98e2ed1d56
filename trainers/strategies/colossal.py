"""ColossalAI's Booster plugins as strategies: TorchDDP, and LowLevelZero as ZeRO-1 and ZeRO-2."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from modelkit.errors import UserError
from trainers.strategies import Groups
from trainers.strategies.ranks import Ranks
from trainers.strategies.tensors import Place, own_state

R = TypeVar("R")
_INSTALL = "pip install --no-deps -r requirements-colossalai.txt"


def check(name: str, devices: int, instead: str) -> None:
    """Whether the strategy called *name* can run here.

    :param devices: CUDA devices of this machine. :param instead: a strategy that can.
    :raises UserError: when ColossalAI isn't installed, or the plugin needs what isn't there.
    """
    if name == "colossalai_gemini":
        raise UserError("colossalai_gemini keeps weights in 16 bits and can't make a pass before it has learnt: use --strategy zero3.")
    if importlib.util.find_spec("colossalai") is None:
        raise UserError(f"{name} needs ColossalAI: install it with {_INSTALL}, or use --strategy {instead}.")
    if name != "colossalai_ddp" and not devices:
        raise UserError(f"{name} needs a CUDA device, since ColossalAI's ZeRO knows nothing else: use --strategy {instead}.")


class Boosted(Ranks):
    """A model and its optimizer, boosted together by a ColossalAI plugin once the optimizer is made.

    Passes that learn go through the boosted model. The plugins average gradients over the ranks; what is left to do is the count.
    Weights stay whole on every rank, so passes that don't learn need nothing of the others.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        super().__init__(name, device)
        self._boosted: dict[nn.Module, tuple[Any, Any]] = {}
        self._partitioned: dict[nn.Parameter, Partitioned] = {}

    def prepare(self, module: nn.Module, trainable: bool = True) -> None:
        module.to(self.device)

    def optimizer(
        self, modules: Sequence[nn.Module], groups: Groups, make: Callable[[Groups], torch.optim.Optimizer]
    ) -> torch.optim.Optimizer:
        from colossalai.booster import Booster

        (module,) = modules
        if isinstance(module, nn.ParameterDict):
            raise UserError(f"{self.name} boosts whole models: set share_backbone: false, or use --strategy zero1.")
        if module in self._boosted:
            raise UserError(f"{self.name} gives a model one optimizer, and muon needs two: set optimiser: adamw, or use --strategy zero1.")
        # boosting puts slices in the place of the weights, in these very groups
        own = [{**group, "params": list(group["params"])} for group in groups]
        optimizer: Any = make(groups)
        model, boosted, *_ = Booster(plugin=self._plugin()).boost(_Passes(module), optimizer)
        self._boosted[module] = model, boosted
        if self.name != "colossalai_ddp":
            optimizer = Partitioned(boosted, own)
            self._partitioned |= {parameter: optimizer for group in own for parameter in group["params"]}
        return optimizer

    def _plugin(self) -> Any:
        from colossalai.booster import plugin

        if self.name == "colossalai_ddp":
            return plugin.TorchDDPPlugin(broadcast_buffers=False, find_unused_parameters=True)
        return plugin.LowLevelZeroPlugin(
            stage=1 if self.name == "colossalai_zero1" else 2,
            precision="fp32",
            overlap_communication=self.device.type == "cuda",
            cpu_offload=self.name == "colossalai_zero2_cpu",
        )

    def forward(self, module: nn.Module, function: Callable[..., R], *inputs: Any) -> R:
        if module not in self._boosted or not torch.is_grad_enabled():
            return function(module, *inputs)
        return self._boosted[module][0](function, *inputs)

    def backward(self, loss: Tensor, module: nn.Module) -> None:
        self._boosted[module][1].backward(loss)

    def whole(self, *modules: nn.Module) -> AbstractContextManager[None]:
        return nullcontext()

    def reduce_gradients(self, parameters: Sequence[nn.Parameter], divide_by: float) -> None:
        torch._foreach_mul_(self._gradients(parameters), self.world / divide_by)

    def clip(self, parameters: Sequence[nn.Parameter], norm: float) -> float:
        gradients = self._gradients(parameters)
        squares = sum(float(gradient.double().square().sum()) for gradient in gradients)
        partitioned = self._partitioned.get(parameters[0])
        total = math.sqrt(self.sum([squares])[0] if partitioned else squares)
        if math.isfinite(total):
            torch._foreach_mul_(gradients, min(1.0, norm / (total + 1e-6)))
        return total

    def forget_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        if partitioned := self._partitioned.get(parameters[0]):
            partitioned.forget_gradients()
        else:
            super().forget_gradients(parameters)

    def _gradients(self, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
        """This rank's part of the averaged gradients."""
        partitioned = self._partitioned.get(parameters[0])
        return partitioned.gradients() if partitioned else [p.grad for p in parameters if p.grad is not None]

    def load_tensors(self, path: Path, place: Place) -> dict[str, Tensor]:
        placed = super().load_tensors(path, place)
        for optimizer in dict.fromkeys(self._partitioned.values()):
            optimizer.take_weights()
        return placed

    def export(self, module: nn.Module) -> dict[str, Tensor]:
        return {name: tensor.detach().cpu() for name, tensor in own_state(module).items()} if self.rank == 0 else {}


class Partitioned:
    """ColossalAI's ZeRO optimizer with the face of a plain one: its groups hold the model's own weights, and states are whole.

    ``state`` is this object: what is put there is kept until the next step, which hands each rank its part.
    """

    def __init__(self, boosted: Any, groups: Groups) -> None:
        self._boosted = boosted
        self.param_groups = groups
        self._loaded: dict[nn.Parameter, dict[str, Tensor]] = {}

    @property
    def state(self) -> Partitioned:
        return self

    def get(self, parameter: nn.Parameter, default: dict[str, Tensor]) -> dict[str, Tensor]:
        """The state of one of the model's weights, put together from all ranks, which must all ask."""
        if parameter in self._loaded:
            return self._loaded[parameter]
        held = self._boosted.optim.state.get(self._slice_of(parameter), {})
        return {key: value if value.dim() == 0 else self._together(value, parameter) for key, value in held.items()} or default

    def __getitem__(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        return self._loaded.setdefault(parameter, {})

    def step(self) -> None:
        for parameter, state in self._loaded.items():
            part = self._slice_of(parameter)
            self._boosted.optim.state[part] = {key: v if v.dim() == 0 else self._mine(v, part) for key, v in state.items()}
        self._loaded = {}
        for own, theirs in zip(self.param_groups, self._boosted.param_groups, strict=True):
            theirs["lr"] = own["lr"]
        self._boosted.step()

    def gradients(self) -> list[Tensor]:
        """This rank's slices of all gradients."""
        stores, groups = self._boosted.pg_to_grad_store.values(), range(self._boosted.num_param_groups)
        return [gradient for store in stores for group in groups for gradient in store.get_working_grads_by_group_id(group)]

    def forget_gradients(self) -> None:
        self._boosted.zero_grad()

    def take_weights(self) -> None:
        """Make the slices that are updated those of the model's weights, after these were loaded."""
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    part = self._slice_of(parameter)
                    part.copy_(self._mine(parameter, part))

    def _slice_of(self, parameter: nn.Parameter) -> Tensor:
        return self._boosted.working_to_master_param[id(parameter)]

    def _mine(self, whole: Tensor, part: Tensor) -> Tensor:
        padded = nn.functional.pad(whole.detach().flatten(), [0, part.numel() * dist.get_world_size() - whole.numel()])
        return padded.split(part.numel())[dist.get_rank()].to(part.device, copy=True)

    def _together(self, part: Tensor, parameter: nn.Parameter) -> Tensor:
        part = part.to(parameter.device).flatten()
        parts = [torch.empty_like(part) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, part)
        return torch.cat(parts)[: parameter.numel()].view_as(parameter)


class _Passes(nn.Module):
    """What a plugin wraps: a module whose forward pass is whatever function of it a stage needs."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, function: Callable[..., R], *inputs: Any) -> R:
        return function(self.module, *inputs)
