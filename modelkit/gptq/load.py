"""A GPTQ checkpoint directory → a model whose linear layers stay quantised. Needs nothing but torch and transformers."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import nn

from modelkit.device import give_back_memory
from modelkit.errors import ModelError
from modelkit.gptq.layer import GPTQLinear
from modelkit.gptq.packing import CODES_PER_PACK, Packed, unpack, unpack_zeros
from modelkit.weights import Weights

if TYPE_CHECKING:
    from transformers import PreTrainedModel

OFFSETS = {"gptq": 1, "gptq_v2": 0}
"""What the formats subtract from a zero point before storing it."""


class GPTQConfig(BaseModel):
    """``quantization_config`` of config.json, or ``quantize_config.json``: the fields that reading depends on."""

    model_config = ConfigDict(extra="ignore")
    bits: Literal[2, 3, 4, 8]
    group_size: int = Field(strict=True, ge=-1)
    sym: bool = True
    desc_act: bool = False
    checkpoint_format: Literal["gptq", "gptq_v2"] = "gptq"
    pack_dtype: Literal["int32"] = "int32"


def quantisation_of(checkpoint: Path, config: dict[str, Any]) -> GPTQConfig | None:
    """How a checkpoint's weights are quantised, or ``None`` for one in plain floating point.

    :raises ModelError: when it is quantised in another way than GPTQ, or its description can't be understood.
    """
    found = config.get("quantization_config")
    separate = checkpoint / "quantize_config.json"
    if found is None and separate.exists():
        try:
            found = {"quant_method": "gptq", **json.loads(separate.read_text(encoding="utf-8"))}
        except (ValueError, TypeError):
            raise ModelError(f"{separate} is not a JSON object: copy it again.") from None
    if found is None:
        return None
    method = found.get("quant_method") if isinstance(found, dict) else found
    if method != "gptq":
        raise ModelError(f"{checkpoint} is quantised by {method!r}, which can't be read here: use a GPTQ or an unquantised checkpoint.")
    try:
        return GPTQConfig.model_validate(found)
    except ValidationError as error:
        problem = error.errors()[0]
        raise ModelError(
            f"the quantization_config of {checkpoint} can't be used: {'.'.join(map(str, problem['loc']))} is {problem['input']!r} "
            f"({problem['msg'].lower()})."
        ) from None


def load(checkpoint: Path, loader: Any, settings: GPTQConfig, dtype: torch.dtype | None, device: torch.device) -> PreTrainedModel:
    """Build the model on *device*, one tensor at a time, so that the peak is the 4-bit model and one layer's unpacking.

    *loader* is an ``Auto…`` class. *dtype* is that of everything that isn't quantised and of the activations; by default bf16,
    which the int4 kernels compute in.

    :raises ModelError: when weights are missing or don't fit the configuration.
    """
    weights = Weights(checkpoint)
    model = skeleton(checkpoint, loader, dtype or torch.bfloat16, device)
    offset = _offset(weights, settings, checkpoint)
    for path, module in list(model.named_modules()):
        name = weights.find(f"{path}.qweight", model.base_model_prefix)
        if name is not None:
            source = name.removesuffix(".qweight")
            layer = _layer(weights, source, settings.bits, offset, model.dtype, device)
            if (layer.in_features, layer.out_features) != linear_shape(module):
                raise ModelError(f"{source} of {checkpoint} has another shape than config.json asks for: they don't belong together.")
            model.set_submodule(path, layer)
            give_back_memory()  # or what unpacking leaves behind would add up
    fill(model, weights, model.base_model_prefix, device)
    model.tie_weights()
    give_back_memory()
    return model.eval()


def skeleton(checkpoint: Path, loader: Any, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
    """The checkpoint's model with parameters that take no memory yet (``meta``), its buffers, and its generation settings."""
    from accelerate import init_empty_weights
    from transformers import AutoConfig, GenerationConfig

    config = AutoConfig.from_pretrained(checkpoint, local_files_only=True)
    with init_empty_weights(include_buffers=False):
        model = loader.from_config(config, dtype=dtype)
    model.tie_weights()
    if (checkpoint / "generation_config.json").exists() and model.can_generate():
        model.generation_config = GenerationConfig.from_pretrained(checkpoint, local_files_only=True)
    model._apply(lambda tensor: tensor if tensor.is_meta else tensor.to(device))
    return model


def fill(module: nn.Module, weights: Weights, prefix: str, device: torch.device, path: str = "", without: str | None = None) -> None:
    """Read all parameters of *module* that are still ``meta``, but for those below the path *without*.

    *path* is the module's name in the model, *prefix* that of the base model, which files may leave out.

    :raises ModelError: when one isn't in the files, or has another shape there.
    """
    for name, parameter in list(module.named_parameters()):
        full = f"{path}.{name}" if path else name
        if not parameter.is_meta or (without is not None and full.startswith(f"{without}.")):
            continue
        source = weights.find(full, prefix)
        if source is None:
            raise ModelError(
                f"{weights.checkpoint} lacks weights its config.json asks for (the first: {full}): they don't belong together."
            )
        value = weights.read(source)
        if value.shape != parameter.shape:
            raise ModelError(f"{source} of {weights.checkpoint} has another shape than config.json asks for: they don't belong together.")
        parent, _, last = name.rpartition(".")
        owner = module.get_submodule(parent)
        owner.register_parameter(last, nn.Parameter(value.to(device, parameter.dtype), requires_grad=False))


def linear_shape(module: nn.Module) -> tuple[int, int] | None:
    """(inputs, outputs) of a linear layer, GPT-2's transposed ``Conv1D`` included; ``None`` for another module."""
    from transformers.pytorch_utils import Conv1D

    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    if isinstance(module, Conv1D):
        return tuple(module.weight.shape)  # type: ignore[return-value]
    return None


def _layer(weights: Weights, name: str, bits: int, offset: int, dtype: torch.dtype, device: torch.device) -> GPTQLinear:
    for part in ("qzeros", "scales"):
        if f"{name}.{part}" not in weights:
            raise ModelError(f"{weights.checkpoint} lacks {name}.{part}, without which {name}.qweight means nothing: copy it again.")
    qweight = weights.read(f"{name}.qweight").to(device)
    scales = weights.read(f"{name}.scales").to(device, torch.float16)
    zeros = unpack_zeros(weights.read(f"{name}.qzeros").to(device), bits, offset)
    inputs, groups = qweight.shape[0] * CODES_PER_PACK // bits, len(scales)
    if f"{name}.g_idx" in weights:
        g_idx = weights.read(f"{name}.g_idx").to(device)
    else:
        g_idx = torch.arange(inputs, dtype=torch.int32, device=device) // -(-inputs // groups)
    if zeros.shape != scales.shape or len(g_idx) != inputs or not 0 <= int(g_idx.min()) <= int(g_idx.max()) < groups:
        raise ModelError(f"{name} of {weights.checkpoint} has scales, zero points and g_idx that don't fit together: copy it again.")
    bias = weights.read(f"{name}.bias").to(device, dtype) if f"{name}.bias" in weights else None
    return GPTQLinear(Packed(bits, qweight, scales, zeros, g_idx), bias)


def _offset(weights: Weights, settings: GPTQConfig, checkpoint: Path) -> int:
    """What to add to stored zero points. A symmetric file tells by itself, and is believed over what it says it is:
    files with v2's zero points that call themselves v1 exist, and give noise when taken by their word.
    """
    told = OFFSETS[settings.checkpoint_format]
    name = next((name for name in weights if name.endswith(".qzeros")), None)
    if name is None:
        raise ModelError(f"{checkpoint} says it is a GPTQ checkpoint but holds no packed weight (.qweight, .qzeros): copy it again.")
    if settings.sym:
        middle = 1 << (settings.bits - 1)
        stored = unpack(weights.read(name).T.contiguous(), settings.bits)
        for offset in OFFSETS.values():
            if offset != told and bool((stored == middle - offset).all()):
                warnings.warn(
                    f"{checkpoint} says checkpoint_format {settings.checkpoint_format!r}, but its zero points are stored as in "
                    f"{'v2' if offset == 0 else 'v1'}: read so.",
                    stacklevel=2,
                )
                return offset
    return told
