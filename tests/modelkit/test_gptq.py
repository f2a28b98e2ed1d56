"""4-bit layers: the file layout against its literal formula, every storage against the dequantised weight, loading of any file."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from modelkit import checkpoint
from modelkit.checkpoint import StageInfo
from modelkit.errors import ModelError
from modelkit.gptq import load as loading
from modelkit.gptq import storage as storages
from modelkit.gptq.layer import KERNEL_ROWS, GPTQLinear, always_dequantise
from modelkit.gptq.load import linear_shape
from modelkit.gptq.packing import BITS, Packed, from_cpu_tiles, pack, pack_zeros, tile_rows, to_cpu_tiles, unpack, unpack_zeros
from modelkit.gptq.storage import CpuTiles, Words

needs_kernel = pytest.mark.skipif(not tile_rows(), reason="this torch has no int4 kernel for this processor")


def packed(
    inputs: int, outputs: int, group: int = 32, bits: int = 4, sym: bool = True, scattered: bool = False, exact_scales: bool = True
) -> Packed:
    """A random layer."""
    g_idx = torch.arange(inputs, dtype=torch.int32) // group
    groups = int(g_idx[-1]) + 1
    scales = torch.rand(groups, outputs) * 0.1 + 0.01
    zeros = torch.full((groups, outputs), 1 << (bits - 1)) if sym else torch.randint(1, 1 << bits, (groups, outputs))
    return Packed(
        bits,
        pack(torch.randint(1 << bits, (inputs, outputs), dtype=torch.uint8), bits),
        (scales.bfloat16() if exact_scales else scales).half(),
        zeros.to(torch.uint8),
        g_idx[torch.randperm(inputs)] if scattered else g_idx,
    )


def literal_words(codes: list[int], bits: int) -> list[int]:
    """One number holding all codes, the first lowest, cut into 32-bit words."""
    stream = sum(code << bits * i for i, code in enumerate(codes))
    words = [stream >> 32 * i & 0xFFFFFFFF for i in range(len(codes) * bits // 32)]
    return [word - (1 << 32) if word >> 31 else word for word in words]


@pytest.mark.parametrize("bits", BITS)
def test_codes_are_a_little_endian_bit_stream(bits: int) -> None:
    codes = torch.randint(1 << bits, (64, 3), dtype=torch.uint8)
    words = pack(codes, bits)
    for column in range(3):
        assert words[:, column].tolist() == literal_words(codes[:, column].tolist(), bits)


@given(bits=st.sampled_from(BITS), packs=st.integers(1, 4), columns=st.integers(1, 5), seed=st.integers(0, 999))
def test_unpacking_inverts_packing(bits: int, packs: int, columns: int, seed: int) -> None:
    rows = packs * (32 if bits == 3 else 32 // bits)
    codes = torch.randint(1 << bits, (rows, columns), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(unpack(pack(codes, bits), bits), codes)


def test_symmetric_zero_points_are_sevens_in_version_1_and_eights_in_version_2() -> None:
    zeros = torch.full((1, 32), 8, dtype=torch.uint8)
    assert pack_zeros(zeros, 4, offset=1)[0].tolist() == [0x77777777] * 4
    assert pack_zeros(zeros, 4, offset=0)[0].tolist() == [0x88888888 - (1 << 32)] * 4
    for offset in (0, 1):
        assert torch.equal(unpack_zeros(pack_zeros(zeros, 4, offset), 4, offset), zeros)
    with pytest.raises(ValueError, match="can't store a zero point of 0"):
        pack_zeros(zeros - 8, 4, offset=1)


def test_what_cannot_be_packed_is_refused() -> None:
    with pytest.raises(ValueError, match="don't fill whole words"):
        pack(torch.zeros(33, 1, dtype=torch.uint8), 4)


@needs_kernel
@pytest.mark.parametrize("outputs", [16, 48, 64, 80, 128, 176])
def test_the_kernels_tiles_give_back_the_codes(outputs: int) -> None:
    codes = torch.randint(16, (outputs, 96), dtype=torch.uint8)
    tiles = to_cpu_tiles(codes)
    assert torch.equal(from_cpu_tiles(tiles, 0, outputs).T + 8, codes)
    if outputs > 64:
        assert torch.equal(from_cpu_tiles(tiles, 64, outputs).T + 8, codes[64:])


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("sym", [True, False])
@pytest.mark.parametrize("scattered", [False, True])
@pytest.mark.parametrize(("inputs", "outputs", "group"), [(128, 64, 32), (192, 96, 128), (256, 80, 256), (96, 32, 96), (64, 40, 32)])
def test_a_layer_multiplies_by_the_weight_its_file_stands_for(
    bits: int, sym: bool, scattered: bool, inputs: int, outputs: int, group: int
) -> None:
    torch.manual_seed(0)
    given = packed(inputs, outputs, group, bits, sym, scattered, exact_scales=False)
    bias = torch.randn(outputs)
    layer = GPTQLinear(given, bias)
    always_dequantise(layer)
    x = torch.randn(2, 5, inputs)
    expected = x @ given.dequantise().T + bias
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-6 * float(expected.abs().max()))


@needs_kernel
@pytest.mark.parametrize("sym", [True, False])
@pytest.mark.parametrize("scattered", [False, True])
@pytest.mark.parametrize("group", [32, 64, 256, 512])
def test_few_rows_go_through_the_int4_kernel_and_many_do_not(sym: bool, scattered: bool, group: int) -> None:
    torch.manual_seed(0)
    given = packed(512, 80, group, sym=sym, scattered=scattered)
    layer = GPTQLinear(given)
    assert isinstance(layer.storage, CpuTiles)
    x = torch.randn(KERNEL_ROWS + 1, 512)
    expected = x @ given.dequantise().T
    few, many = layer(x[:KERNEL_ROWS]), layer(x)
    assert not torch.equal(few, many[:KERNEL_ROWS])
    torch.testing.assert_close(many, expected, rtol=1e-5, atol=1e-6 * float(expected.abs().max()))
    assert float((few - expected[:KERNEL_ROWS]).norm() / expected[:KERNEL_ROWS].norm()) < 2e-2


@needs_kernel
def test_a_row_has_the_same_result_in_any_batch_once_always_dequantised() -> None:
    torch.manual_seed(0)
    layer = GPTQLinear(packed(256, 64))
    always_dequantise(layer)
    x = torch.randn(KERNEL_ROWS + 1, 256)
    torch.testing.assert_close(layer(x[:1]), layer(x)[:1], rtol=1e-5, atol=1e-6)


@needs_kernel
def test_the_weight_is_held_once() -> None:
    exact, foreign = GPTQLinear(packed(256, 64)), GPTQLinear(packed(256, 64, exact_scales=False))
    tiles, scales = 256 * 64 // 2, 8 * 64
    assert sum(buffer.nbytes for buffer in exact.buffers()) == tiles + scales * 4
    assert sum(buffer.nbytes for buffer in foreign.buffers()) == tiles + scales * (4 + 2 + 1)


@pytest.mark.parametrize("bits", [3, 4])
def test_gradients_reach_the_input_through_the_dequantised_weight(bits: int) -> None:
    torch.manual_seed(0)
    given = packed(128, 96, bits=bits, scattered=True)
    layer, x, upstream = GPTQLinear(given), torch.randn(3, 128, requires_grad=True), torch.randn(3, 96)
    (found,) = torch.autograd.grad(layer(x), x, upstream)
    torch.testing.assert_close(found, upstream @ given.dequantise(), rtol=1e-5, atol=1e-5)
    assert not [parameter for parameter in layer.parameters() if parameter.requires_grad]


def test_casting_a_model_leaves_packed_weights_as_they_are() -> None:
    layer = GPTQLinear(packed(128, 64), torch.zeros(64))
    before = [buffer.clone() for buffer in layer.buffers()]
    layer.half().bfloat16()
    assert layer.bias is not None
    assert layer.bias.dtype == torch.bfloat16
    for old, new in zip(before, layer.buffers(), strict=True):
        assert old.dtype == new.dtype
        assert torch.equal(old, new)


@needs_kernel
def test_tiles_of_one_device_are_not_moved_to_another() -> None:
    with pytest.raises(RuntimeError, match="load the checkpoint on the other device"):
        GPTQLinear(packed(128, 64)).to("meta")


def test_words_serve_where_there_is_no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storages, "tile_rows", lambda: 0)
    given = packed(128, 64, scattered=True)
    layer, x = GPTQLinear(given), torch.randn(1, 128)
    assert isinstance(layer.storage, Words)
    torch.testing.assert_close(layer(x), x @ given.dequantise().T, rtol=1e-5, atol=1e-5)


# ---- directories


def quantised_copy(
    source: Path,
    folder: Path,
    version: int = 1,
    told: str | None = None,
    sym: bool = True,
    scattered: bool = False,
    g_idx: bool = True,
    config_file: str = "config.json",
) -> Path:
    """A checkpoint whose linear layers got random 4-bit weights, written by the letter of the format, not by our exporter."""
    folder.mkdir()
    for file in source.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    tensors = load_file(source / "model.safetensors")
    for name in [name for name in tensors if name.endswith("_proj.weight")]:
        outputs, inputs = tensors.pop(name).shape
        layer = packed(inputs, outputs, sym=sym, scattered=scattered, exact_scales=False)
        stem = name.removesuffix(".weight")
        tensors |= {
            f"{stem}.qweight": layer.qweight,
            f"{stem}.qzeros": pack_zeros(layer.zeros, 4, offset=2 - version),
            f"{stem}.scales": layer.scales,
        }
        if g_idx:
            tensors[f"{stem}.g_idx"] = layer.g_idx
        tensors[f"expected.{stem}"] = layer.dequantise()
    expected = {name.removeprefix("expected."): tensors.pop(name) for name in list(tensors) if name.startswith("expected.")}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    save_file(expected, folder.with_suffix(".expected"))
    description = {"bits": 4, "group_size": 32, "sym": sym, "desc_act": scattered, "quant_method": "gptq"}
    description["checkpoint_format"] = told or ("gptq" if version == 1 else "gptq_v2")
    config = json.loads((folder / "config.json").read_text())
    if config_file == "config.json":
        (folder / "config.json").write_text(json.dumps({**config, "quantization_config": description}))
    else:
        (folder / config_file).write_text(json.dumps({key: value for key, value in description.items() if key != "quant_method"}))
    return folder


def dense_twin(folder: Path, source: Path) -> PreTrainedModel:
    """The unquantised model with the weights that the quantised one stands for."""
    model = checkpoint.load_model(source)
    for name, weight in load_file(folder.with_suffix(".expected")).items():
        model.get_submodule(name).weight.data = weight
    return model


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"version": 2},
        {"sym": False},
        {"scattered": True},
        {"version": 2, "sym": False, "scattered": True},
        {"g_idx": False},
        {"config_file": "quantize_config.json"},
    ],
    ids=str,
)
def test_any_gptq_directory_loads_and_gives_the_dequantised_models_logits(saved: Path, tmp_path: Path, how: dict) -> None:
    torch.manual_seed(0)
    folder = quantised_copy(saved, tmp_path / "quantised", **how)
    model = checkpoint.load_model(folder, dtype=torch.float32)
    always_dequantise(model)
    assert sum(isinstance(module, GPTQLinear) for module in model.modules()) == 14
    ids = torch.arange(5, 45)[None]
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, dense_twin(folder, saved)(ids).logits, rtol=1e-4, atol=1e-4)


def test_what_is_not_quantised_is_16_bits_by_default(saved: Path, tmp_path: Path) -> None:
    model = checkpoint.load_model(quantised_copy(saved, tmp_path / "quantised"))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert not model.training


def test_zero_points_of_version_2_under_the_name_of_version_1_are_seen_through(saved: Path, tmp_path: Path) -> None:
    folder = quantised_copy(saved, tmp_path / "quantised", version=2, told="gptq")
    with pytest.warns(UserWarning, match="stored as in v2"):
        model = checkpoint.load_model(folder, dtype=torch.float32)
    always_dequantise(model)
    ids = torch.arange(5, 45)[None]
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, dense_twin(folder, saved)(ids).logits, rtol=1e-4, atol=1e-4)


def test_an_honest_file_is_read_without_a_warning(saved: Path, tmp_path: Path) -> None:
    folder = quantised_copy(saved, tmp_path / "quantised")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checkpoint.load_model(folder)


def _change_description(folder: Path, **fields: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] |= fields
    (folder / "config.json").write_text(json.dumps(config))


def _drop(folder: Path, ending: str) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file({name: tensor for name, tensor in tensors.items() if not name.endswith(ending)}, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda folder: _change_description(folder, quant_method="awq"), "quantised by 'awq'"),
        (lambda folder: _change_description(folder, bits=5), "bits is 5"),
        (lambda folder: _change_description(folder, checkpoint_format="marlin"), "checkpoint_format is 'marlin'"),
        (lambda folder: _drop(folder, "proj.qweight"), "asks for (the first: model.layers.0.self_attn.q_proj.weight)"),
        (lambda folder: _drop(folder, "1.mlp.up_proj.scales"), "lacks model.layers.1.mlp.up_proj.scales"),
        (lambda folder: _drop(folder, "embed_tokens.weight"), "asks for (the first: model.embed_tokens.weight)"),
    ],
)
def test_a_damaged_gptq_directory_is_refused_in_one_sentence(saved: Path, tmp_path: Path, damage, says: str) -> None:
    folder = quantised_copy(saved, tmp_path / "quantised")
    damage(folder)
    with pytest.raises(ModelError) as raised:
        checkpoint.load_model(folder)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_layers_of_another_shape_are_refused(saved: Path, tmp_path: Path) -> None:
    folder = quantised_copy(saved, tmp_path / "quantised")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 96}))
    with pytest.raises(ModelError, match="another shape"):
        checkpoint.load_model(folder)


def test_linear_shapes_are_known_for_both_kinds_of_layer() -> None:
    from transformers.pytorch_utils import Conv1D

    assert linear_shape(torch.nn.Linear(3, 5)) == linear_shape(Conv1D(5, 3)) == (3, 5)
    assert linear_shape(torch.nn.ReLU()) is None


# ---- adapters


def test_an_adapter_on_a_frozen_quantised_base_learns_and_leaves_it_untouched(
    saved: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    from peft import LoraConfig, PeftModel, get_peft_model

    torch.manual_seed(0)
    folder = quantised_copy(saved, tmp_path / "quantised")
    model = get_peft_model(checkpoint.load_model(folder), LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    base = [buffer.clone() for buffer in model.buffers()]
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert len(trainable) == 28
    optimizer = torch.optim.AdamW(trainable, lr=2e-2)
    ids = torch.tensor([tokenizer("The capital of France is Paris. 法国的首都是巴黎。")["input_ids"]])
    losses = []
    for _ in range(12):
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    assert all(torch.equal(old, new) for old, new in zip(base, model.buffers(), strict=True))

    model.eval().save_pretrained(str(tmp_path / "adapter"))
    again = PeftModel.from_pretrained(checkpoint.load_model(folder), tmp_path / "adapter").eval()
    with torch.no_grad():
        assert torch.equal(again(input_ids=ids).logits, model(input_ids=ids).logits)


def test_a_4_bit_reward_model_is_loaded_as_one(reward_checkpoint: Path, tmp_path: Path) -> None:
    folder = quantised_copy(reward_checkpoint, tmp_path / "quantised")
    model = checkpoint.load_model(folder, "reward", torch.float32)
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        assert model(ids).logits.shape == (1, 1)
    assert checkpoint.read_stage(folder) == StageInfo(stage="rm")


def test_the_quantised_base_of_an_adapter_is_laid_out_for_the_device_asked_for(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft import LoraConfig, get_peft_model

    folder = quantised_copy(saved, tmp_path / "quantised")
    model = get_peft_model(checkpoint.load_model(folder), LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    model.peft_config["default"].base_model_name_or_path = str(folder)
    model.save_pretrained(str(tmp_path / "adapter"))
    assert [checkpoint.is_quantised(path) for path in (saved, folder, tmp_path / "adapter")] == [False, True, True]

    def load(folder: Path, loader: object, how: object, dtype: object, device: torch.device) -> PreTrainedModel:
        raise ModelError(f"asked for on {device}")

    monkeypatch.setattr(loading, "load", load)
    with pytest.raises(ModelError, match="asked for on cuda:9"):
        checkpoint.load_model(tmp_path / "adapter", device=torch.device("cuda:9"))
