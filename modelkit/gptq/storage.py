"""Where a 4-bit layer's weight lives, once: as the file's words anywhere, or as the tiles that torch's int4 kernels read.

Inputs are kept sorted by group, so that an act-order file is as fast as any other; ``order`` tells the layer how to sort its input.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from modelkit.gptq.packing import KERNEL_GROUPS, Packed, from_cpu_tiles, pack, tile_rows, to_cpu_tiles, unpack

_CHUNK = 1 << 21
"""Weights that are dequantised at a time: 8 MiB of fp32, so that a large layer never exists whole."""


class Storage(nn.Module):
    """A weight [N, K] that can be dequantised piece by piece. Moving it keeps every tensor's dtype.

    ``order`` int64 [K], or ``None`` where inputs need no sorting.
    """

    kernel = False
    order: torch.Tensor | None
    qweight: torch.Tensor

    def __init__(self, packed: Packed) -> None:
        super().__init__()
        self.in_features, self.out_features, self.bits = packed.in_features, packed.out_features, packed.bits
        order = packed.g_idx.long().argsort(stable=True)
        ascending = torch.equal(order, torch.arange(len(order), device=order.device))
        self.register_buffer("order", None if ascending else order)

    def chunks(self) -> list[tuple[int, int]]:
        """Ranges of outputs of about two million weights each."""
        step = max(64, _CHUNK // self.in_features // 64 * 64)
        return [(start, min(start + step, self.out_features)) for start in range(0, self.out_features, step)]

    def dequantise(self, start: int, stop: int, dtype: torch.dtype) -> torch.Tensor:
        """The weights of outputs *start* … *stop*, transposed: [K, stop − start], inputs sorted by group."""
        raise NotImplementedError

    def matmul(self, x: torch.Tensor) -> torch.Tensor:
        """x [M, K] with sorted inputs → [M, N], by an int4 kernel."""
        raise NotImplementedError

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Any:
        return super()._apply(lambda tensor: fn(tensor).to(tensor.dtype), recurse)


class Words(Storage):
    """The file's own 32-bit words, for every bit width, shape and device; always dequantised to be used."""

    def __init__(self, packed: Packed) -> None:
        super().__init__(packed)
        words, g_idx = packed.qweight, packed.g_idx
        if self.order is not None:
            words, g_idx = pack(unpack(words, packed.bits)[self.order], packed.bits), g_idx[self.order]
        self.scales: torch.Tensor
        self.zeros: torch.Tensor
        self.g_idx: torch.Tensor
        self.register_buffer("qweight", words)
        self.register_buffer("scales", packed.scales)
        self.register_buffer("zeros", packed.zeros)
        self.register_buffer("g_idx", g_idx.int())

    def dequantise(self, start: int, stop: int, dtype: torch.dtype) -> torch.Tensor:
        codes = unpack(self.qweight[:, start:stop].contiguous(), self.bits).to(torch.int16)
        shifted = codes - self.zeros[:, start:stop].to(torch.int16).index_select(0, self.g_idx)
        return (shifted.float() * self.scales[:, start:stop].float().index_select(0, self.g_idx)).to(dtype)


class CpuTiles(Storage):
    """4-bit weights as ``aten::_weight_int4pack_mm_for_cpu`` reads them: bf16 activations, W = scale · (q − 8) + shift.

    The kernel's scales are bf16. Where that loses nothing and the zero point is 8 throughout, as in files this project writes,
    they are the only copy; otherwise the file's scales and zero points stay beside them (3 % more), for exact dequantising.
    """

    kernel = True
    scales: torch.Tensor | None
    zeros: torch.Tensor | None

    def __init__(self, packed: Packed, group: int) -> None:
        super().__init__(packed)
        self.group = kernel_group(group)
        repeat = group // self.group
        self.scales_and_shifts: torch.Tensor
        self.register_buffer("qweight", torch.empty(self.out_features, self.in_features // 2, dtype=torch.uint8))
        for start, stop in self.chunks():
            self.qweight[start:stop] = self._tiles(packed, start, stop)
        shifts = (8 - packed.zeros.float()) * packed.scales.float()
        pairs = torch.stack([packed.scales.float(), shifts], -1).bfloat16().repeat_interleave(repeat, 0)
        self.register_buffer("scales_and_shifts", pairs)
        exact = bool((packed.zeros == 8).all()) and torch.equal(packed.scales.bfloat16().half(), packed.scales)
        self.register_buffer("scales", None if exact else packed.scales.repeat_interleave(repeat, 0))
        self.register_buffer("zeros", None if exact else (packed.zeros.to(torch.int8) - 8).repeat_interleave(repeat, 0))

    def _tiles(self, packed: Packed, start: int, stop: int) -> torch.Tensor:
        codes = unpack(packed.qweight[:, start:stop].contiguous(), 4)
        return to_cpu_tiles((codes if self.order is None else codes[self.order]).T)

    def dequantise(self, start: int, stop: int, dtype: torch.dtype) -> torch.Tensor:
        codes = from_cpu_tiles(self.qweight, start, stop).view(-1, self.group, stop - start)
        if self.scales is None or self.zeros is None:
            weight = codes.float().mul_(self.scales_and_shifts[:, None, start:stop, 0].float())
        else:
            weight = codes.sub_(self.zeros[:, None, start:stop]).float().mul_(self.scales[:, None, start:stop].float())
        return weight.view(self.in_features, -1).to(dtype)

    def matmul(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.ops.aten._weight_int4pack_mm_for_cpu(x.bfloat16(), self.qweight, self.group, self.scales_and_shifts)
        return y.to(x.dtype)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Any:
        _stay(fn, "cpu")
        return super()._apply(fn, recurse)


class CudaTiles(Storage):
    """4-bit weights as ``aten::_weight_int4pack_mm`` (tinygemm) reads them: bf16 throughout.

    Its tiles are unpacked by multiplying with the identity, which gives the very weights that the kernel computes with.
    """

    kernel = True
    _INNER_K_TILES = 8

    def __init__(self, packed: Packed, group: int) -> None:
        super().__init__(packed)
        self.group = kernel_group(group)
        self.scales_and_shifts: torch.Tensor
        codes = unpack(packed.qweight, 4)
        codes = (codes if self.order is None else codes[self.order]).T.contiguous()
        pairs = (codes[:, ::2] << 4 | codes[:, 1::2]).contiguous()
        self.register_buffer("qweight", torch.ops.aten._convert_weight_to_int4pack(pairs, self._INNER_K_TILES))
        shifts = (8 - packed.zeros.float()) * packed.scales.float()
        scales_and_shifts = torch.stack([packed.scales.float(), shifts], -1).bfloat16().repeat_interleave(group // self.group, 0)
        self.register_buffer("scales_and_shifts", scales_and_shifts)

    def chunks(self) -> list[tuple[int, int]]:
        return [(0, self.out_features)]

    def dequantise(self, start: int, stop: int, dtype: torch.dtype) -> torch.Tensor:
        identity = torch.eye(self.in_features, dtype=torch.bfloat16, device=self.qweight.device)
        return self.matmul(identity)[:, start:stop].to(dtype)

    def matmul(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.ops.aten._weight_int4pack_mm(x.bfloat16(), self.qweight, self.group, self.scales_and_shifts)
        return y.to(x.dtype)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Any:
        _stay(fn, "cuda")
        return super()._apply(fn, recurse)


def store(packed: Packed) -> Storage:
    """The best storage for this weight on the device its tensors are on."""
    group = _uniform_group(packed.g_idx)
    if packed.bits == 4 and group is not None and kernel_group(group):
        if packed.qweight.device.type == "cpu" and packed.out_features % 16 == 0 and tile_rows():
            return CpuTiles(packed, group)
        if packed.qweight.device.type == "cuda" and packed.out_features % 8 == 0 and packed.in_features % 128 == 0:
            tiles = CudaTiles(packed, group)
            if _same_weights(tiles, packed):
                return tiles
    return Words(packed)


def kernel_group(group: int) -> int:
    """The largest group size of torch's kernels that divides *group* (whose scales are then repeated), or 0."""
    return next((size for size in KERNEL_GROUPS if group % size == 0), 0)


def _uniform_group(g_idx: torch.Tensor) -> int | None:
    sizes = torch.bincount(g_idx.long())
    return int(sizes[0]) if bool((sizes == sizes[0]).all()) else None


def _same_weights(tiles: CudaTiles, packed: Packed) -> bool:
    """Whether the kernel of this device and torch reads the tiles as meant, to bf16's precision, on a few outputs."""
    weight = packed.dequantise()[:64].T
    weight = weight if tiles.order is None else weight[tiles.order]
    try:
        found = tiles.dequantise(0, 64, torch.float32)
    except RuntimeError:
        return False
    return torch.allclose(found, weight, rtol=2e-2, atol=float(weight.abs().max()) * 1e-2)


def _stay(fn: Callable[[torch.Tensor], torch.Tensor], device: str) -> None:
    if fn(torch.empty(0, device=device)).device.type != device:
        raise RuntimeError(f"a GPTQ layer's tiles are laid out for {device}: load the checkpoint on the other device instead of moving it")
