"""Linear layers through oneDNN: the same numbers and gradients as torch's own, in the last bits apart."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from modelkit import linear
from modelkit.linear import PackedLinear, fast_linear, pack

CPU = torch.device("cpu")
pytestmark = pytest.mark.skipif(not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="this torch has no oneDNN")


@pytest.fixture(autouse=True)
def everything_is_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "_WORTH", 0)


@pytest.mark.parametrize("shape", [(3, 32), (17, 32), (64, 32), (4, 16, 32), (5, 29, 32)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("long", [0, 2**40], ids=["rows as they are", "rows rounded up"])
def test_outputs_and_gradients_are_those_of_torch(shape: tuple[int, ...], bias: bool, long: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "_LONG", long)
    found = []
    for context in (torch.enable_grad(), fast_linear(CPU, torch.float32)):
        torch.manual_seed(1)
        layer = nn.Linear(32, 48, bias=bias)
        inputs = torch.randn(shape, requires_grad=True)
        with context:
            output = layer(inputs)
            output.square().sum().backward()
        found.append([output.detach(), inputs.grad, *(parameter.grad for parameter in layer.parameters())])
    for expected, got in zip(*found, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_frozen_weights_get_no_gradient_and_tied_ones_the_sum() -> None:
    weight = torch.randn(32, 32, requires_grad=True)
    frozen = torch.randn(32, 32)
    inputs = torch.randn(16, 32)
    with fast_linear(CPU, torch.float32):
        functional.linear(functional.linear(functional.linear(inputs, weight), frozen), weight).sum().backward()
    fast, weight.grad = weight.grad, None
    (inputs @ weight.t() @ frozen.t() @ weight.t()).sum().backward()
    torch.testing.assert_close(fast, weight.grad, rtol=1e-4, atol=1e-3)
    assert frozen.grad is None


def test_other_dtypes_and_devices_are_left_alone() -> None:
    assert not isinstance(fast_linear(CPU, torch.bfloat16), torch.overrides.TorchFunctionMode)
    with fast_linear(CPU, torch.float32):
        out = functional.linear(torch.ones(16, 4, dtype=torch.bfloat16), torch.ones(2, 4, dtype=torch.bfloat16))
    assert out.dtype == torch.bfloat16


class Tied(nn.Module):
    """An embedding whose weight is also the head's, a small layer and a large one with a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(1100, 256)
        self.small, self.large = nn.Linear(256, 256), nn.Linear(256, 1030)
        self.head = nn.Linear(256, 1100, bias=False)
        self.head.weight = self.embedding.weight


@pytest.mark.parametrize("rows", [1, 8, 100])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
@torch.inference_mode()
def test_packed_layers_multiply_as_before_and_small_ones_are_left_alone(rows: int, dtype: torch.dtype, tolerance: float) -> None:
    if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("this processor has no bf16 products")
    torch.manual_seed(0)
    plain = Tied().to(dtype)
    packed = copy.deepcopy(plain)
    pack(packed)
    assert [type(layer) for layer in (packed.small, packed.large, packed.head)] == [nn.Linear, PackedLinear, PackedLinear]
    x = torch.randn(2, rows, 256, dtype=dtype)
    for name in ("large", "head"):
        torch.testing.assert_close(getattr(packed, name)(x), getattr(plain, name)(x), rtol=tolerance, atol=10 * tolerance)
    assert torch.equal(packed.embedding.weight, plain.embedding.weight)


def test_a_packed_weight_counts_as_before_where_weights_are_counted() -> None:
    model = Tied()
    tied = model.embedding.weight.numel()
    before = sum(parameter.numel() for parameter in model.parameters())
    pack(model)
    assert sum(parameter.numel() * parameter.element_size() for parameter in model.parameters()) == 4 * (before + tied)


def test_other_dtypes_are_not_packed() -> None:
    model = nn.Sequential(nn.Linear(1024, 512, dtype=torch.float16))
    pack(model)
    assert type(model[0]) is nn.Linear
