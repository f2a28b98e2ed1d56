"""One optimizer over one set of weights: AdamW, warm-up and cosine decay, clipping, and a guard against bad gradients."""

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
    """AdamW on *modules*. Vectors (norms, biases) are not decayed. The learning rate follows the recipe's schedule."""

    def __init__(self, modules: Iterable[nn.Module], settings: Optimisation, lr: float | None = None, updates_per_step: int = 1) -> None:
        self.parameters = [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]
        self._peak = settings.lr if lr is None else lr
        self._settings = settings
        self._total = settings.steps * updates_per_step
        groups = [
            {"params": [p for p in self.parameters if p.dim() >= 2], "weight_decay": settings.weight_decay},
            {"params": [p for p in self.parameters if p.dim() < 2], "weight_decay": 0.0},
        ]
        self._adamw = torch.optim.AdamW(
            [group for group in groups if group["params"]], lr=self._peak, betas=settings.betas, eps=settings.eps, fused=True
        )
        self.updates = 0
        self.skipped = 0

    def learning_rate(self) -> float:
        """The rate of the coming update: linear warm-up, then a cosine down to ``final_lr`` of the peak."""
        warmup = max(1, round(self._settings.warmup * self._total))
        if self.updates < warmup:
            return self._peak * (self.updates + 1) / warmup
        done = min(1.0, (self.updates - warmup) / max(1, self._total - warmup))
        floor = self._settings.final_lr
        return self._peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done)))

    def step(self, divide_by: float = 1.0) -> dict[str, float]:
        """Divide the accumulated gradients by *divide_by*, clip, update, zero them.

        An update whose gradient norm isn't finite is skipped.

        :returns: ``lr`` and ``grad_norm`` (before clipping).
        :raises UserError: after five skipped updates in a row.
        """
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        if divide_by != 1.0:
            torch._foreach_div_(gradients, divide_by)
        norm = float(nn.utils.clip_grad_norm_(self.parameters, self._settings.clip, foreach=True))
        lr = self.learning_rate()
        if math.isfinite(norm):
            for group in self._adamw.param_groups:
                group["lr"] = lr
            self._adamw.step()
            self.skipped = 0
        else:
            self.skipped += 1
            if self.skipped >= _PATIENCE:
                raise UserError(f"the gradient was not finite in {_PATIENCE} updates in a row: lower the learning rate (now {lr:.2g}).")
        self._adamw.zero_grad(set_to_none=True)
        self.updates += 1
        return {"lr": lr, "grad_norm": norm}

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """(tensors by name, plain numbers) that :meth:`load` takes back."""
        tensors = {f"{i}.{key}": value for i, p in enumerate(self.parameters) for key, value in self._adamw.state.get(p, {}).items()}
        return tensors, {"updates": self.updates, "skipped": self.skipped}

    def load(self, tensors: dict[str, torch.Tensor], numbers: dict[str, Any]) -> None:
        """Restore what :meth:`state` gave."""
        self.updates, self.skipped = numbers["updates"], numbers["skipped"]
        for name, tensor in tensors.items():
            index, key = name.split(".", 1)
            self._adamw.state[self.parameters[int(index)]][key] = tensor.clone()
