"""One optimizer over one set of weights: AdamW or Muon, warm-up and cosine decay, clipping, and a guard against bad gradients."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from modelkit.errors import UserError
from trainers.recipe import Optimisation

_PATIENCE = 5


class Optimiser:
    """Updates the trainable weights of *modules* as *settings* say. Vectors (norms, biases) are not decayed."""

    def __init__(self, modules: Iterable[nn.Module], settings: Optimisation, lr: float | None = None, updates_per_step: int = 1) -> None:
        modules = list(modules)
        self.parameters = [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]
        self._settings = settings
        self._total = settings.steps * updates_per_step
        self.updates = 0
        self.skipped = 0
        body = _body_matrices(modules) if settings.optimiser == "muon" else set()
        rest = [p for p in self.parameters if p not in body]
        groups = [
            {"params": [p for p in rest if p.dim() >= 2], "weight_decay": settings.weight_decay},
            {"params": [p for p in rest if p.dim() < 2], "weight_decay": 0.0},
        ]
        peak = settings.lr if lr is None else lr
        adamw = torch.optim.AdamW([g for g in groups if g["params"]], lr=peak, betas=settings.betas, eps=settings.eps, fused=True)
        self._parts: list[tuple[torch.optim.Optimizer, float]] = [(adamw, peak)]
        if body:
            self._parts.append((_muon([p for p in self.parameters if p in body], settings), settings.muon_lr))

    def schedule(self) -> float:
        """The coming update's share of the peak learning rate: linear warm-up, then a cosine down to ``final_lr``."""
        warmup = max(1, round(self._settings.warmup * self._total))
        if self.updates < warmup:
            return (self.updates + 1) / warmup
        done = min(1.0, (self.updates - warmup) / max(1, self._total - warmup))
        floor = self._settings.final_lr
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))

    def step(self, divide_by: float = 1.0) -> dict[str, float]:
        """Divide the accumulated gradients by *divide_by*, clip, update, drop them.

        An update whose gradient norm isn't finite is skipped.

        :returns: ``lr`` and ``grad_norm`` (before clipping).
        :raises UserError: after five skipped updates in a row.
        """
        if divide_by != 1.0:
            torch._foreach_div_([p.grad for p in self.parameters if p.grad is not None], divide_by)
        norm = float(nn.utils.clip_grad_norm_(self.parameters, self._settings.clip, foreach=True))
        share = self.schedule()
        if math.isfinite(norm):
            for optimizer, peak in self._parts:
                for group in optimizer.param_groups:
                    group["lr"] = peak * share
                optimizer.step()
            self.skipped = 0
        else:
            self.skipped += 1
            if self.skipped >= _PATIENCE:
                raise UserError(f"the gradient was not finite in {_PATIENCE} updates in a row: lower the learning rate.")
        for parameter in self.parameters:
            parameter.grad = None
        self.updates += 1
        return {"lr": self._parts[0][1] * share, "grad_norm": norm}

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """(tensors by name, plain numbers) that :meth:`load` takes back."""
        tensors = {
            f"{i}.{key}": value
            for i, parameter in enumerate(self.parameters)
            for optimizer, _ in self._parts
            for key, value in optimizer.state.get(parameter, {}).items()
        }
        return tensors, {"updates": self.updates, "skipped": self.skipped}

    def load(self, tensors: dict[str, torch.Tensor], numbers: dict[str, Any]) -> None:
        """Restore what :meth:`state` gave."""
        self.updates, self.skipped = numbers["updates"], numbers["skipped"]
        owner = {p: optimizer for optimizer, _ in self._parts for group in optimizer.param_groups for p in group["params"]}
        for name, tensor in tensors.items():
            index, key = name.split(".", 1)
            parameter = self.parameters[int(index)]
            owner[parameter].state[parameter][key] = tensor.clone()


def _body_matrices(modules: list[nn.Module]) -> set[torch.Tensor]:
    """The weights of the linear layers below the embeddings and the output head."""
    found: set[torch.Tensor] = set()
    for module in modules:
        body = getattr(module, "base_model", module)
        weights = (layer.weight for layer in body.modules() if isinstance(layer, nn.Linear))
        found |= {weight for weight in weights if weight is not None and weight.requires_grad}
    return found


def _muon(matrices: list[torch.Tensor], settings: Optimisation) -> torch.optim.Optimizer:
    if not hasattr(torch.optim, "Muon"):
        raise UserError(f"the muon optimiser needs torch 2.9 or later (this is {torch.__version__}): upgrade, or set optimiser: adamw.")
    return torch.optim.Muon(
        matrices, lr=settings.muon_lr, momentum=0.95, weight_decay=settings.weight_decay, adjust_lr_fn="match_rms_adamw"
    )
