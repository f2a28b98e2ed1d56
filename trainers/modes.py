"""Which parts of a model behave differently while it learns: layers that are computed twice, and the adapters' dropout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def learning(model: nn.Module, dropout: bool = True) -> Iterator[None]:
    """Recompute layers, and with *dropout* drop out in the adapters, while the block runs; dropout of the model itself stays off."""
    dropouts = [layer for name, layer in model.named_modules() if "lora_dropout" in name] if dropout else []
    recompute(model, True)
    for layer in dropouts:
        layer.train()
    try:
        yield
    finally:
        recompute(model, False)
        for layer in dropouts:
            layer.eval()


def recompute(model: nn.Module, on: bool) -> None:
    """Switch gradient checkpointing, where it is set up, on or off.

    A layer recomputes while its own flag says training; its parts' flags, which switch dropout, stay as they are.
    """
    for layer in model.modules():
        if getattr(layer, "gradient_checkpointing", False):
            layer.training = on
