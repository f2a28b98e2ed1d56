"""One optimizer over one set of weights: AdamW or Muon, warm-up and cosine decay, clipping, and a guard against bad gradients."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from modelkit.errors import UserError
from trainers.recipe import Optimisation
from trainers.strategies import Groups, Strategy, trainable
from trainers.strategies.plain import Single


class Optimiser:
    """Updates the trainable weights of *modules* as *settings* say. Vectors (norms, biases) are not decayed.

    ``skipped`` counts the updates in a row that were left out because their gradient wasn't finite, ``skipped_in_all`` all of them.
    """

    def __init__(
        self,
        modules: Iterable[nn.Module],
        settings: Optimisation,
        lr: float | None = None,
        updates_per_step: int = 1,
        strategy: Strategy | None = None,
    ) -> None:
        modules = list(modules)
        self.strategy = strategy or Single()
        self.parameters = trainable(modules)
        self._settings = settings
        self._total = settings.steps * updates_per_step
        self.updates = 0
        self.skipped = 0
        self.skipped_in_all = 0
        body = _body_matrices(modules) if settings.optimiser == "muon" else set()
        rest = [p for p in self.parameters if p not in body]
        groups = [
            {"params": [p for p in rest if p.dim() >= 2], "weight_decay": settings.weight_decay},
            {"params": [p for p in rest if p.dim() < 2], "weight_decay": 0.0},
        ]
        peak = settings.lr if lr is None else lr

        def adamw(groups: Groups) -> torch.optim.Optimizer:
            return torch.optim.AdamW(groups, lr=peak, betas=settings.betas, eps=settings.eps, fused=True)

        filled = [g for g in groups if g["params"]]
        self._parts: list[tuple[torch.optim.Optimizer, float]] = []
        if filled:
            self._parts.append((self.strategy.optimizer(modules, filled, adamw), peak))
        if body:
            matrices: Groups = [{"params": [p for p in self.parameters if p in body]}]
            self._parts.append((self.strategy.optimizer(modules, matrices, lambda groups: _muon(groups, settings)), settings.muon_lr))

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

        An update whose gradient norm isn't finite is skipped; the loop ends a stage that does nothing else.

        :returns: ``lr`` and ``grad_norm`` (before clipping).
        """
        self.strategy.reduce_gradients(self.parameters, divide_by)
        norm = self.strategy.clip(self.parameters, self._settings.clip)
        share = self.schedule()
        if math.isfinite(norm):
            for optimizer, peak in self._parts:
                for group in optimizer.param_groups:
                    group["lr"] = peak * share
                optimizer.step()
            self.skipped = 0
        else:
            self.skipped += 1
            self.skipped_in_all += 1
        self.drop()
        return {"lr": self._parts[0][1] * share, "grad_norm": norm}

    def drop(self) -> None:
        """Let the accumulated gradients go. They count as an update, made or left out."""
        self.strategy.forget_gradients(self.parameters)
        self.updates += 1

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """(tensors by name, plain numbers) that :meth:`load` takes back."""
        tensors = {
            f"{i}.{key}": value
            for i, parameter in enumerate(self.parameters)
            for optimizer, _ in self._parts
            for key, value in optimizer.state.get(parameter, {}).items()
        }
        return tensors, {"updates": self.updates, "skipped": self.skipped, "skipped_in_all": self.skipped_in_all}

    def load(self, numbers: dict[str, Any]) -> None:
        """Restore the plain numbers that :meth:`state` gave."""
        self.updates, self.skipped, self.skipped_in_all = numbers["updates"], numbers["skipped"], numbers["skipped_in_all"]

    def place(self, name: str, size: torch.Size, dtype: torch.dtype) -> torch.Tensor | None:
        """Where the tensor that :meth:`state` called *name* belongs; ``None`` when another rank keeps it."""
        index, key = name.split(".", 1)
        parameter = self.parameters[int(index)]
        owner = next((o for o, _ in self._parts for group in o.param_groups if any(p is parameter for p in group["params"])), None)
        if owner is None:
            return None
        like = torch.zeros_like(parameter, dtype=dtype, requires_grad=False)
        tensor = like if size == parameter.shape else torch.zeros(size, dtype=dtype, device=parameter.device)
        owner.state[parameter][key] = tensor
        return tensor


def _body_matrices(modules: list[nn.Module]) -> set[torch.Tensor]:
    """The weights of the linear layers below the embeddings and the output head."""
    found: set[torch.Tensor] = set()
    for module in modules:
        body = getattr(module, "base_model", module)
        weights = (layer.weight for layer in body.modules() if isinstance(layer, nn.Linear))
        found |= {weight for weight in weights if weight is not None and weight.requires_grad}
    return found


def _muon(matrices: Groups, settings: Optimisation) -> torch.optim.Optimizer:
    if not hasattr(torch.optim, "Muon"):
        raise UserError(f"the muon optimiser needs torch 2.9 or later (this is {torch.__version__}): upgrade, or set optimiser: adamw.")
    return torch.optim.Muon(
        matrices, lr=settings.muon_lr, momentum=0.95, weight_decay=settings.weight_decay, adjust_lr_fn="match_rms_adamw"
    )
