"""A transformer taken apart: its blocks, what they are called with, and which linear layers in them read the same input.

Nothing here knows an architecture. The blocks are the model's biggest list of equal modules; the order of its layers is the order
in which they run, and layers that are given the same tensor (query, key and value; gate and up) form a group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from modelkit.errors import ModelError
from modelkit.gptq.load import linear_shape
from modelkit.linear import fast_linear

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Call = tuple[tuple[Any, ...], dict[str, Any]]
"""What a block is given besides its hidden states: attention mask, positions, rotary angles, …"""


@dataclass(frozen=True)
class Blocks:
    """The blocks of a model and their common path in it, for example ``model.layers``."""

    path: str
    modules: nn.ModuleList

    def __len__(self) -> int:
        return len(self.modules)

    def named(self, i: int) -> tuple[str, nn.Module]:
        return f"{self.path}.{i}", self.modules[i]


def find_blocks(model: PreTrainedModel) -> Blocks:
    """:raises ModelError: when the model has no list of blocks with linear layers."""
    lists = [
        (sum(p.numel() for p in module.parameters()), path, module)
        for path, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len({type(entry) for entry in module}) == 1
    ]
    if not lists:
        raise ModelError(f"{type(model).__name__} has no list of transformer blocks, so there is nothing to quantise one by one.")
    _, path, modules = max(lists, key=lambda entry: entry[0])
    return Blocks(path, modules)


def linear_layers(block: nn.Module) -> dict[str, nn.Module]:
    """The block's linear layers by their path in it."""
    return {name: module for name, module in block.named_modules() if linear_shape(module) is not None}


@torch.no_grad()
def enter(model: PreTrainedModel, blocks: Blocks, ids: torch.Tensor, gives_tuple: bool) -> tuple[torch.Tensor, list[Call]]:
    """What reaches the first block for token ids [1, T], and what every block is called with.

    No block runs: each only notes its arguments and hands the hidden states on, as a tuple where the model expects one.
    """
    hidden: list[torch.Tensor] = []
    calls: list[Call] = []

    def note(hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        hidden.append(hidden_states)
        calls.append((args, kwargs))
        return (hidden_states,) if gives_tuple else hidden_states

    with _replaced_forward(blocks, note):
        model.base_model(input_ids=ids, use_cache=False)
    return hidden[0], calls


@torch.no_grad()
def returns_tuple(model: PreTrainedModel, blocks: Blocks, ids: torch.Tensor) -> bool:
    """Whether a block returns a tuple that starts with the hidden states, found by running the first one (which must be loaded)."""

    class Seen(Exception):
        pass

    def look(_module: nn.Module, _inputs: Any, output: Any) -> None:
        raise Seen(isinstance(output, tuple))

    hook = blocks.modules[0].register_forward_hook(look)
    try:
        model.base_model(input_ids=ids, use_cache=False)
    except Seen as seen:
        return bool(seen.args[0])
    finally:
        hook.remove()
    raise ModelError(f"{type(model).__name__} does not run its own blocks ({blocks.path}), so it can't be quantised block by block.")


@torch.no_grad()
def run_block(block: nn.Module, hidden: torch.Tensor, call: Call) -> torch.Tensor:
    """The block's hidden states [1, T, H] for one sequence."""
    with fast_linear(hidden.device, hidden.dtype):
        output = block(hidden, *call[0], **call[1])
    return output[0] if isinstance(output, tuple) else output


def groups_in_order(block: nn.Module, hidden: torch.Tensor, call: Call) -> list[list[str]]:
    """The block's linear layers as they run, those that read one and the same tensor together; ones that never run come last."""
    layers = linear_layers(block)
    groups: dict[tuple[int, int], list[str]] = {}
    kept_alive: list[torch.Tensor] = []

    def note(name: str) -> Callable[[nn.Module, Any], None]:
        def hook(_module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            kept_alive.append(inputs[0])
            group = groups.setdefault((inputs[0].data_ptr(), inputs[0].numel()), [])
            if name not in group:
                group.append(name)

        return hook

    hooks = [module.register_forward_pre_hook(note(name)) for name, module in layers.items()]
    try:
        run_block(block, hidden, call)
    finally:
        for hook in hooks:
            hook.remove()
    ran = {name for group in groups.values() for name in group}
    return [*groups.values(), *([name] for name in layers if name not in ran)]


def hessian_of(layer: nn.Module, block: nn.Module, inputs: int, sequences: Iterable[tuple[torch.Tensor, Call]]) -> torch.Tensor:
    """H = Σ x xᵀ [K, K], fp32, over every input row that the layer sees while the block runs; what comes after it is not run."""

    class Enough(Exception):
        pass

    hessian: torch.Tensor | None = None

    def add(_module: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        nonlocal hessian
        rows = given[0].reshape(-1, inputs).float()
        hessian = rows.T @ rows if hessian is None else hessian.addmm_(rows.T, rows)
        raise Enough

    hook = layer.register_forward_pre_hook(add)
    try:
        for hidden, call in sequences:
            with suppress(Enough):
                run_block(block, hidden, call)
    finally:
        hook.remove()
    return torch.zeros(inputs, inputs, device=next(layer.parameters()).device) if hessian is None else hessian


@contextmanager
def _replaced_forward(blocks: Blocks, forward: Callable[..., Any]) -> Iterator[None]:
    for block in blocks.modules:
        block.forward = forward
    try:
        yield
    finally:
        for block in blocks.modules:
            del block.forward
