"""Strategies: where weights, gradients and optimizer states live, and how several processes act as one.

A stage is written once, for any of them:

* its modules go through :meth:`Strategy.prepare` *before* its optimisers are made, and every pass through
  :meth:`Strategy.forward` and :meth:`Strategy.backward`, since sharded weights exist only inside a forward pass;
* all ranks know the whole step; :func:`turns` says which micro-batches of it are this rank's;
* losses are *sums* over rows or tokens; ``Optimiser.step(divide_by=…)`` divides once, by the count over all ranks;
* sums that are logged, or that losses depend on, go through :meth:`Strategy.sum` or :meth:`Strategy.combine`;
* replies are sampled under :meth:`Strategy.whole`, where no pass communicates, so ranks may take unequal numbers of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from trainers.data.order import microbatches

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from trainers.strategies.tensors import Place

R = TypeVar("R")
Groups = list[dict[str, Any]]


class Strategy(Protocol):
    """What stages, the optimiser and checkpointing ask. Every method is called by all ranks, in the same order, unless it says so."""

    name: str
    rank: int
    world: int
    device: torch.device

    def prepare(self, module: nn.Module, trainable: bool = True) -> None:
        """Move or shard *module*, in place. Parameters made before are no longer the module's: optimisers come afterwards."""

    def optimizer(
        self, modules: Sequence[nn.Module], groups: Groups, make: Callable[[Groups], torch.optim.Optimizer]
    ) -> torch.optim.Optimizer:
        """The optimizer that *make* builds of this rank's part of the parameter *groups* of prepared *modules*."""

    def forward(self, module: nn.Module, function: Callable[..., R], *inputs: Any) -> R:
        """``function(module, *inputs)`` as one forward pass of a prepared module, with its weights at hand."""

    def backward(self, loss: Tensor, module: nn.Module) -> None:
        """Add the gradient of *loss*, which one :meth:`forward` of *module* gave, to its parameters."""

    def whole(self, *modules: nn.Module) -> AbstractContextManager[None]:
        """While the block runs, passes of *modules* (called as they are, without gradients) don't communicate."""

    def share(self, indices: Sequence[int], costs: Sequence[int]) -> list[int]:
        """This rank's part of a step: ``costs[i]`` is what row *i* of *indices* costs. Over all ranks every index occurs once."""

    def rounds(self, microbatches: int) -> int:
        """The largest *microbatches* over the ranks: how many passes each of them makes."""

    def sum(self, values: Sequence[float]) -> list[float]:
        """Each value summed over the ranks, in double precision."""

    def combine(self, tensor: Tensor) -> Tensor:
        """*tensor* summed over the ranks, element by element, where it was; exact for rows that are 0 on all ranks but one."""

    def reduce_gradients(self, parameters: Sequence[nn.Parameter], divide_by: float) -> None:
        """After the last micro-batch of a step: Σ over ranks of what :meth:`backward` left, divided by a global count."""

    def clip(self, parameters: Sequence[nn.Parameter], norm: float) -> float:
        """Scale gradients down to a global norm of at most *norm*; the norm before, over all ranks' parts."""

    def forget_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Let go of what :meth:`backward` left, wherever it is kept."""

    def save_tensors(self, tensors: dict[str, Tensor], path: Path) -> None:
        """Write this rank's part of *tensors* (names are global) to *path*, without suffix: a file or directory is made of it."""

    def load_tensors(self, path: Path, place: Place) -> dict[str, Tensor]:
        """Fill the tensors that *place* names with what any strategy wrote to *path*, on whatever number of ranks."""

    def export(self, module: nn.Module) -> dict[str, Tensor]:
        """The whole state dict of a prepared module on rank 0, on the CPU, tied weights once; nothing elsewhere."""

    def barrier(self) -> None:
        """Wait for all ranks."""


def turns(
    strategy: Strategy,
    step: Sequence[int],
    lengths: Sequence[int],
    micro_tokens: int,
    split: Callable[[Sequence[int], Sequence[int], int], Iterable[list[int]]] = microbatches,
) -> list[tuple[list[int], float]]:
    """This rank's micro-batches of a *step* of row indices, each with its weight 1.

    Sharded models need equally many passes on every rank, so a rank with fewer ends with passes over one row at weight 0:
    its loss counts nowhere.

    :param lengths: tokens of every row there is, by index. :param split: how rows are put together, padded side by side by default.
    """
    mine = strategy.share(step, [lengths[i] for i in step])
    batches = [(batch, 1.0) for batch in split(mine, lengths, micro_tokens)]
    spare = [min(step, key=lambda i: lengths[i])]
    return batches + [(spare, 0.0)] * (strategy.rounds(len(batches)) - len(batches))


def trainable(modules: Iterable[nn.Module]) -> list[nn.Parameter]:
    """The parameters that gradients are wanted for, each once."""
    return list(dict.fromkeys(p for module in modules for p in module.parameters() if p.requires_grad))
