"""Tensors of a training state on disk: written whole by one process or in parts by many, read back by any number of them.

Both are safetensors. Many ranks write through torch's distributed checkpointing (DCP) with its safetensors storage, which keeps
each part's place in the file's header, so that unlike DCP's own format nothing here is a pickle.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

Place = Callable[[str, torch.Size, torch.dtype], Tensor | None]
"""Where to put a saved tensor of this name, whole size and dtype; ``None`` when this rank doesn't need it."""


def own_state(module: nn.Module) -> dict[str, Tensor]:
    """A module's parameters and persistent buffers by name, tied ones once."""
    persistent = module.state_dict().keys()
    named = [*module.named_parameters(), *module.named_buffers()]
    return {name: tensor for name, tensor in named if name in persistent}


def save_whole(tensors: dict[str, Tensor], path: Path) -> None:
    """Write ``<path>.safetensors``."""
    from safetensors.torch import save_file

    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, _file(path))


def save_parts(tensors: dict[str, Tensor], path: Path) -> None:
    """Write the directory *path*: every rank its shards of DTensors and what no other rank has. All ranks call it.

    :raises OSError: (or another error) on all ranks, when the disk of one is full.
    """
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter

    try:
        dcp.save(
            {name: tensor.detach() for name, tensor in tensors.items()},
            storage_writer=HuggingFaceStorageWriter(str(path), save_distributed=True),
        )
    except CheckpointException as error:
        raise next(iter(error.failures.values()))[0] from None


def load(path: Path, place: Place) -> dict[str, Tensor]:
    """Fill the tensors that *place* names with what :func:`save_whole` or :func:`save_parts` wrote; DTensors get their own shard.

    :returns: the filled tensors by name.
    :raises OSError: when neither is there. :raises safetensors.SafetensorError: for a damaged file.
    """
    return _load_whole(path, place) if _file(path).exists() else _load_parts(path, place)


@torch.no_grad()
def _load_whole(path: Path, place: Place) -> dict[str, Tensor]:
    from safetensors import safe_open
    from torch.distributed.tensor import DTensor, distribute_tensor

    placed: dict[str, Tensor] = {}
    with safe_open(_file(path), "pt") as file:
        for name in file.keys():  # noqa: SIM118 (an open file is no mapping)
            whole = file.get_tensor(name)
            tensor = place(name, whole.shape, whole.dtype)
            if tensor is None:
                continue
            if isinstance(tensor, DTensor):
                mesh = tensor.device_mesh
                whole = distribute_tensor(whole.to(mesh.device_type), mesh, tensor.placements, src_data_rank=None)
            tensor.copy_(whole)
            placed[name] = tensor
    return placed


@torch.no_grad()
def _load_parts(path: Path, place: Place) -> dict[str, Tensor]:
    import torch.distributed as dist
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

    saved = HuggingFaceStorageReader(str(path)).read_metadata().state_dict_metadata
    wanted = ((name, place(name, torch.Size(entry.size), entry.properties.dtype)) for name, entry in saved.items())  # type: ignore[union-attr]
    placed = {name: tensor for name, tensor in wanted if tensor is not None}
    with warnings.catch_warnings():
        # one process reading alone is what is meant
        warnings.filterwarnings("ignore", "torch.distributed is disabled")
        dcp.load(dict(placed), storage_reader=HuggingFaceStorageReader(str(path)), no_dist=not dist.is_initialized())
    return placed


def _file(path: Path) -> Path:
    return path.with_name(f"{path.name}.safetensors")
