"""How quantised weights lie in a GPTQ file and in memory: a bit stream of small codes, and the tiles of torch's CPU int4 kernel.

A linear layer of K inputs and N outputs has codes ``q[k, n]`` of *bits* bits, a scale and a zero point per group of inputs and
output, and stands for ``W[n, k] = scales[g, n] · (q[k, n] − zeros[g, n])`` with ``g = g_idx[k]``. In the file, 32 consecutive
codes fill *bits* 32-bit words, the first code in the lowest bits; a 3-bit code may lie across two words. ``qweight`` packs along
the inputs, ``qzeros`` along the outputs. The original format ("gptq", v1) stores the zero point minus one, "gptq_v2" as it is.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch

BITS = (2, 3, 4, 8)
CODES_PER_PACK = 32
KERNEL_GROUPS = (256, 128, 64, 32)
"""Group sizes that torch's int4 kernels know, the one that needs least memory first."""


@dataclass(frozen=True)
class Packed:
    """A quantised linear layer as a GPTQ file holds it, with the zero points unpacked.

    ``qweight`` int32 [K·bits/32, N] · ``scales`` fp16 [G, N] · ``zeros`` uint8 [G, N] · ``g_idx`` int32 [K]
    """

    bits: int
    qweight: torch.Tensor
    scales: torch.Tensor
    zeros: torch.Tensor
    g_idx: torch.Tensor

    @property
    def in_features(self) -> int:
        return self.g_idx.shape[0]

    @property
    def out_features(self) -> int:
        return self.qweight.shape[1]

    def dequantise(self) -> torch.Tensor:
        """The weight it stands for, fp32 [N, K]: the literal formula, exact."""
        groups = self.g_idx.long()
        codes = unpack(self.qweight, self.bits).float()
        return ((codes - self.zeros.float()[groups]) * self.scales.float()[groups]).T.contiguous()


def pack(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """uint8 codes [R, C] → int32 words [R·bits/32, C], packed down the rows.

    :raises ValueError: when R codes don't fill whole words.
    """
    rows, columns = codes.shape
    if rows * bits % 32:
        raise ValueError(f"{rows} codes of {bits} bits can't be packed: they don't fill whole words of 32 bits")
    values = _padded(codes, CODES_PER_PACK).view(-1, CODES_PER_PACK, columns)
    words = torch.zeros(len(values), bits, columns, dtype=torch.int64, device=codes.device)
    for i in range(CODES_PER_PACK):
        word, shift = divmod(bits * i, 32)
        value = values[:, i].long()
        words[:, word] |= value << shift & 0xFFFFFFFF
        if shift + bits > 32:
            words[:, word + 1] |= value >> (32 - shift)
    return words.to(torch.int32).view(-1, columns)[: rows * bits // 32]


def unpack(words: torch.Tensor, bits: int) -> torch.Tensor:
    """int32 words [R·bits/32, C] → uint8 codes [R, C]; the inverse of :func:`pack`."""
    rows, columns = words.shape
    packs = _padded(words, bits).view(-1, bits, columns)
    codes = torch.empty(len(packs), CODES_PER_PACK, columns, dtype=torch.uint8, device=words.device)
    mask = (1 << bits) - 1
    for i in range(CODES_PER_PACK):
        word, shift = divmod(bits * i, 32)
        value = packs[:, word] >> shift
        if shift + bits > 32:
            value = value & (1 << (32 - shift)) - 1 | packs[:, word + 1] << (32 - shift)
        codes[:, i] = value & mask
    return codes.view(-1, columns)[: rows * 32 // bits]


def _padded(rows: torch.Tensor, multiple: int) -> torch.Tensor:
    missing = -len(rows) % multiple
    return torch.cat([rows, rows.new_zeros(missing, rows.shape[1])]) if missing else rows


def pack_zeros(zeros: torch.Tensor, bits: int, offset: int) -> torch.Tensor:
    """Zero points uint8 [G, N] → ``qzeros`` int32 [G, N·bits/32]; *offset* is 1 in v1 and 0 in v2.

    :raises ValueError: for a zero point of 0 in v1, which has no room for it.
    """
    if offset and bool((zeros < offset).any()):
        raise ValueError("v1 can't store a zero point of 0")
    return pack((zeros - offset).T.contiguous(), bits).T.contiguous()


def unpack_zeros(qzeros: torch.Tensor, bits: int, offset: int) -> torch.Tensor:
    """The inverse of :func:`pack_zeros`. In v1 the highest value wraps to 0, as other readers have it."""
    stored = unpack(qzeros.T.contiguous(), bits).T.contiguous()
    return (stored + offset) & ((1 << bits) - 1) if bits < 8 else stored + offset


def to_cpu_tiles(codes: torch.Tensor) -> torch.Tensor:
    """uint8 codes [N, K] of 4 bits → the CPU kernel's uint8 [N, K/2]. N must be a multiple of 16."""
    return torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes.int(), 1)


def from_cpu_tiles(tiles: torch.Tensor, start: int, stop: int) -> torch.Tensor:
    """The codes of outputs *start* … *stop* as int8 [K, stop − start], less 8 (−8 … 7).

    *start* is a multiple of :func:`tile_rows`; *stop* too, or N. In a whole tile the low nibbles are the first half of its rows
    and the high nibbles the second; in a last, smaller one the two nibbles of a byte are neighbours.
    """
    n, half_k = tiles.shape
    rows = tile_rows()
    whole = min(stop, n - n % rows)
    codes = torch.empty(2 * half_k, stop - start, dtype=torch.int8)
    if whole > start:
        pairs = tiles[start:whole].view(-1, 2 * half_k, rows // 2).transpose(0, 1)
        _split_nibbles(pairs, codes[:, : whole - start].unflatten(1, (-1, rows)).unflatten(2, (2, -1)).unbind(2))
    if stop > whole:
        pairs = tiles[whole:stop].view(2 * half_k, -1)
        _split_nibbles(pairs, codes[:, whole - start :].unflatten(1, (-1, 2)).unbind(2))
    return codes.sub_(8)


def _split_nibbles(pairs: torch.Tensor, into: tuple[torch.Tensor, ...]) -> None:
    low, high = into
    low.copy_(pairs & 15)
    high.copy_(pairs >> 4)


@functools.cache
def tile_rows() -> int:
    """Rows of one tile of the CPU int4 kernel: they depend on the processor's vector width. 0: no layout known here."""
    if not hasattr(torch.ops.aten, "_weight_int4pack_mm_for_cpu"):
        return 0
    codes = torch.randint(0, 16, (80, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    tiles = to_cpu_tiles(codes)
    for rows in (64, 32, 16):
        whole = 80 - 80 % rows
        parts = codes[:whole].view(-1, 2, rows // 2, 32)
        expected = [(parts[:, 0] | parts[:, 1] << 4).transpose(1, 2).reshape(-1)]
        if whole < 80:
            pairs = codes[whole:].view(-1, 2, 32)
            expected.append((pairs[:, 0] | pairs[:, 1] << 4).T.reshape(-1))
        if torch.equal(torch.cat(expected), tiles.view(-1)):
            return rows
    return 0
