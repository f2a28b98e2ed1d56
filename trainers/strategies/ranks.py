"""What all strategies of several processes share: who this one is, what is its part, and sums over all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from trainers.strategies import tensors as stored


class Ranks:
    """One of ``world`` processes of an initialised process group, on its own *device*."""

    def __init__(self, name: str, device: torch.device) -> None:
        self.name, self.device = name, device
        self.rank, self.world = dist.get_rank(), dist.get_world_size()

    def share(self, indices: Sequence[int], costs: Sequence[int]) -> list[int]:
        return shares(indices, costs, self.world)[self.rank]

    def rounds(self, microbatches: int) -> int:
        most = torch.tensor(microbatches)
        dist.all_reduce(most, dist.ReduceOp.MAX)
        return int(most)

    def sum(self, values: Sequence[float]) -> list[float]:
        return self.combine(torch.tensor(values, dtype=torch.float64)).tolist()

    def combine(self, tensor: Tensor) -> Tensor:
        dist.all_reduce(tensor)
        return tensor

    def barrier(self) -> None:
        dist.barrier()

    def forget_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        for parameter in parameters:
            parameter.grad = None

    def save_tensors(self, tensors: dict[str, Tensor], path: Path) -> None:
        stored.save_parts(tensors, path)

    def load_tensors(self, path: Path, place: stored.Place) -> dict[str, Tensor]:
        return stored.load(path, place)


def shares(indices: Sequence[int], costs: Sequence[int], ranks: int) -> list[list[int]]:
    """Split rows into *ranks* parts of nearly equal cost: dearest first, each to the part that is lightest so far (Graham 1969).

    The parts keep the order of *indices*, and depend on nothing else, so all ranks find the same ones.
    """
    loads = [0] * ranks
    owner: dict[int, int] = {}
    for position in sorted(range(len(indices)), key=lambda i: (-costs[i], i)):
        owner[position] = lightest = loads.index(min(loads))
        loads[lightest] += costs[position]
    return [[index for position, index in enumerate(indices) if owner[position] == part] for part in range(ranks)]


def in_buckets(tensors: Sequence[Tensor], act: Callable[[Tensor], object], elements: int = 2**24) -> None:
    """Let *act* change *tensors* in place, many at once as one flat tensor: a collective call per tensor would cost more."""
    bucket: list[Tensor] = []
    for i, tensor in enumerate(tensors):
        bucket.append(tensor)
        following = tensors[i + 1] if i + 1 < len(tensors) else None
        full = sum(entry.numel() for entry in bucket) >= elements
        if full or following is None or following.dtype != tensor.dtype:
            flat = torch.cat([entry.reshape(-1) for entry in bucket])
            act(flat)
            parts = flat.split([entry.numel() for entry in bucket])
            torch._foreach_copy_(bucket, [part.view_as(entry) for part, entry in zip(parts, bucket, strict=True)])
            bucket = []
