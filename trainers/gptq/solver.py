"""One linear layer: which code each weight gets. Tensors in, tensors out.

The weight W [N, K] is rounded column by column; what rounding a column costs is made good in the columns still to come, by the
second-order rule of the paper (Frantar et al. 2023, eq. 2 and 3, algorithm 1): with U the upper Cholesky factor of H⁻¹, where
H = XᵀX is the layer's Hessian over the calibration inputs X [T, K],

    δ_j = (w_j − quant(w_j)) / U_jj,    W_{:, j:} ← W_{:, j:} − δ_j · U_{j, j:}
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from modelkit.errors import UserError
from modelkit.gptq.packing import BITS

GROUPS = (-1, 32, 64, 128, 256)

BLOCK = 128
"""Columns whose updates reach the rest of the matrix together, as one product."""

DAMPING = (0.01, 0.03, 0.1, 0.3, 1.0)
"""Shares of the Hessian's mean diagonal added to its diagonal, tried in turn until it can be inverted."""


@dataclass(frozen=True)
class Grid:
    """What a weight may become: ``bits`` per code, one scale and zero point per ``group`` inputs (−1: all of them) and output.

    Symmetric grids fix the zero point in the middle. Act-order rounds the columns that matter most first; groups then follow that
    order, unless ``static_groups`` fixes them, and their scales, beforehand.
    """

    bits: int = 4
    group: int = 128
    sym: bool = True
    act_order: bool = False
    static_groups: bool = False

    def __post_init__(self) -> None:
        """:raises UserError: for bits or a group size that the file format or its readers don't know."""
        if self.bits not in BITS:
            raise UserError(f"weights of {self.bits} bits are not possible: choose {', '.join(map(str, BITS))}.")
        if self.group not in GROUPS:
            raise UserError(f"groups of {self.group} inputs are not possible: choose {', '.join(map(str, GROUPS))}.")

    @property
    def highest(self) -> int:
        return (1 << self.bits) - 1

    def group_of(self, inputs: int) -> torch.Tensor:
        """The group of each column, in the order that columns are taken in: int64 [inputs]."""
        return torch.arange(inputs) // (inputs if self.group == -1 else self.group)


@dataclass(frozen=True)
class Solution:
    """codes uint8 [N, K] · scales fp16 [N, G] · zeros uint8 [N, G] · group of each column int64 [K] · the damping it took

    ``damping`` is ``None`` for weights rounded to nearest.
    """

    codes: torch.Tensor
    scales: torch.Tensor
    zeros: torch.Tensor
    groups: torch.Tensor
    damping: float | None = None

    def weight(self) -> torch.Tensor:
        """The weight that the codes stand for, fp32 [N, K]."""
        return (self.codes.float() - self.zeros.float()[:, self.groups]) * self.scales.float()[:, self.groups]


def scale_and_zero(weight: torch.Tensor, grid: Grid) -> tuple[torch.Tensor, torch.Tensor]:
    """The scale and zero point of each row of *weight* [N, G], as [N] and [N] in its dtype.

    The range always includes 0. Scales are rounded to what bf16 and fp16 both hold, so that files (fp16) and int4 kernels (bf16)
    mean the same weights; zero points are at least 1, since version 1 of the file format can't store 0.
    """
    low, high = weight.amin(1).clamp(max=0), weight.amax(1).clamp(min=0)
    if grid.sym:
        high = torch.maximum(-low, high)
        low = -high
    empty = low == high
    low, high = torch.where(empty, -1.0, low), torch.where(empty, 1.0, high)
    scale = ((high - low) / grid.highest).bfloat16().half().clamp(min=2**-24).to(weight.dtype)
    zero = torch.full_like(scale, (grid.highest + 1) / 2) if grid.sym else torch.round(-low / scale).clamp(1, grid.highest)
    return scale, zero


def round_to_nearest(weight: torch.Tensor, grid: Grid) -> Solution:
    """Every weight to its nearest code: the baseline, and what a layer falls back to."""
    groups = grid.group_of(weight.shape[1]).to(weight.device)
    scales, zeros = _static(weight, grid, groups)
    codes = _codes(weight, scales[:, groups], zeros[:, groups], grid)
    return Solution(codes.to(torch.uint8), scales.half(), zeros.to(torch.uint8), groups)


def quantise(weight: torch.Tensor, hessian: torch.Tensor, grid: Grid) -> Solution:
    """GPTQ. *weight* [N, K] and *hessian* [K, K] share a floating dtype and are left as they are.

    :raises ValueError: when no damping makes the Hessian invertible, or it isn't finite.
    """
    inputs = weight.shape[1]
    weight, hessian = weight.clone(), hessian.clone()
    silent = hessian.diagonal() == 0
    hessian.diagonal()[silent] = 1
    weight[:, silent] = 0

    column_groups = grid.group_of(inputs).to(weight.device)
    scales, zeros = _static(weight, grid, column_groups)
    order = hessian.diagonal().argsort(descending=True, stable=True) if grid.act_order else torch.arange(inputs, device=weight.device)
    if grid.static_groups:
        column_groups = column_groups[order]
    factor, damping = _inverse_factor(hessian[order][:, order])
    columns = weight.T[order].contiguous()

    size = inputs if grid.group == -1 else grid.group
    block = BLOCK if grid.group == -1 else size * max(1, BLOCK // size)
    codes = torch.empty_like(columns, dtype=torch.uint8)
    for start in range(0, inputs, block):
        stop = min(start + block, inputs)
        current, corner = columns[start:stop], factor[start:stop, start:stop]
        errors = torch.empty_like(current)
        for j in range(stop - start):
            group = column_groups[start + j]
            if not grid.static_groups and grid.group != -1 and (start + j) % size == 0:
                scales[:, group], zeros[:, group] = scale_and_zero(current[j : j + size].T, grid)
            code = _codes(current[j], scales[:, group], zeros[:, group], grid)
            codes[start + j] = code.to(torch.uint8)
            errors[j] = (current[j] - (code - zeros[:, group]) * scales[:, group]) / corner[j, j]
            current[j:].addr_(corner[j, j:], errors[j], alpha=-1)
        columns[stop:].addmm_(factor[start:stop, stop:].T, errors, alpha=-1)
    if not bool(torch.isfinite(columns).all()):
        raise ValueError("the weights left the range of numbers while being rounded")

    back = order.argsort()
    return Solution(codes[back].T.contiguous(), scales.half(), zeros.to(torch.uint8), column_groups[back], damping)


def relative_error(weight: torch.Tensor, quantised: torch.Tensor, hessian: torch.Tensor) -> float:
    """‖X(W − Ŵ)ᵀ‖² / ‖XWᵀ‖² over the calibration inputs: the share of the layer's output that is lost."""
    difference = weight - quantised
    lost, whole = (((matrix @ hessian) * matrix).sum() for matrix in (difference, weight))
    return float(lost / whole.clamp(min=torch.finfo(whole.dtype).tiny))


def _static(weight: torch.Tensor, grid: Grid, groups: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Scales and zero points [N, G] of the weight as it is, for groups of neighbouring columns."""
    sizes = torch.bincount(groups).tolist()
    pairs = [scale_and_zero(part, grid) for part in weight.split(sizes, dim=1)]
    return torch.stack([scale for scale, _ in pairs], 1), torch.stack([zero for _, zero in pairs], 1)


def _codes(weight: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor, grid: Grid) -> torch.Tensor:
    return (torch.round(weight / scale) + zero).clamp(0, grid.highest)


def _inverse_factor(hessian: torch.Tensor) -> tuple[torch.Tensor, float]:
    """The upper Cholesky factor of the damped Hessian's inverse, and the damping that it took."""
    mean = hessian.diagonal().mean()
    if not bool(torch.isfinite(mean)):
        raise ValueError("the inputs of the layer are not finite")
    for damping in DAMPING:
        damped = hessian.clone()
        damped.diagonal().add_(damping * mean)
        lower, failed = torch.linalg.cholesky_ex(damped)
        if failed:
            continue
        upper, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
        if not failed and bool(torch.isfinite(upper).all()):
            return upper, damping
    raise ValueError("the Hessian can't be inverted, however much it is damped")
