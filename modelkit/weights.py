"""Safetensors files read tensor by tensor: for checkpoints that must never be in memory whole.

The format (github.com/huggingface/safetensors): 8 bytes of header length, a JSON header with dtype, shape and offsets by name,
then the tensors' bytes. Files are read, not mapped: mapped pages would count as this process's memory.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelkit.errors import ModelError

if TYPE_CHECKING:
    import torch

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def weight_files(checkpoint: Path) -> list[Path]:
    """The safetensors files of a checkpoint directory.

    :raises ModelError: when there are none, or one that the index names is missing.
    """
    index = checkpoint / "model.safetensors.index.json"
    if index.exists():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (json.JSONDecodeError, KeyError, AttributeError):
            raise ModelError(f"{index} is damaged: copy it again.") from None
        files = [checkpoint / name for name in names]
        for file in files:
            if not file.exists():
                raise ModelError(f"{checkpoint} lacks {file.name}, one of the {len(files)} weight files its index names: copy it again.")
        return files
    files = sorted(checkpoint.glob("*.safetensors"))
    if files:
        return files
    pickles = sorted(file.name for pattern in _PICKLES for file in checkpoint.glob(pattern))
    if pickles:
        raise ModelError(
            f"{checkpoint} keeps its weights as a pickle ({pickles[0]}), which can run code when opened: convert it once, where you trust "
            "it, with AutoModelForCausalLM.from_pretrained(…).save_pretrained(…), which writes safetensors."
        )
    raise ModelError(f"{checkpoint} has no weights (model.safetensors): copy them, or finish the download.")


def read_header(file: Path) -> tuple[dict[str, Any], int]:
    """The tensors that a safetensors file promises, by name, and where their bytes begin.

    :raises ModelError: when it is no such file, or shorter or longer than its header says.
    """
    size = file.stat().st_size
    try:
        with file.open("rb") as stream:
            (header_size,) = struct.unpack("<Q", stream.read(8))
            if header_size > size:
                raise ValueError
            header = json.loads(stream.read(header_size))
        tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
        ends = [entry["data_offsets"][1] for entry in tensors.values()]
    except (struct.error, ValueError, KeyError, TypeError, AttributeError):
        raise ModelError(f"{file} is no safetensors file or is cut off: copy it again.") from None
    promised = 8 + header_size + max(ends, default=0)
    if size != promised:
        raise ModelError(f"{file} is cut off ({size:,} of {promised:,} bytes): copy it again.")
    return tensors, 8 + header_size


@dataclass(frozen=True)
class _Place:
    file: Path
    dtype: str
    shape: list[int]
    start: int
    size: int


class Weights:
    """The tensors of a checkpoint, each read from its file when it is asked for."""

    def __init__(self, checkpoint: Path) -> None:
        """:raises ModelError: when the checkpoint's weight files are missing or damaged."""
        self.checkpoint = checkpoint
        self._places: dict[str, _Place] = {}
        for file in weight_files(checkpoint):
            tensors, base = read_header(file)
            for name, entry in tensors.items():
                start, end = entry["data_offsets"]
                self._places[name] = _Place(file, entry["dtype"], entry["shape"], base + start, end - start)

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def __iter__(self):
        return iter(self._places)

    def find(self, name: str, prefix: str) -> str | None:
        """The file's name for a model's parameter: with or without the base model's *prefix*, as checkpoints differ in that.

        GPT-NeoX calls its output layer by another name in files than in transformers 5.
        """
        candidates = (name, name.removeprefix(f"{prefix}."), f"{prefix}.{name}", name.replace("lm_head.", "embed_out."))
        return next((candidate for candidate in candidates if candidate in self._places), None)

    def read(self, name: str) -> torch.Tensor:
        """One tensor, on the CPU, in the file's dtype."""
        import torch

        place = self._places[name]
        dtypes = {
            "F64": torch.float64,
            "F32": torch.float32,
            "F16": torch.float16,
            "BF16": torch.bfloat16,
            "I64": torch.int64,
            "I32": torch.int32,
            "I16": torch.int16,
            "I8": torch.int8,
            "U8": torch.uint8,
            "BOOL": torch.bool,
        }
        if place.dtype not in dtypes:
            raise ModelError(f"{place.file} keeps {name} as {place.dtype}, which can't be read here: convert it to bf16 or fp16.")
        if not place.size:
            return torch.empty(place.shape, dtype=dtypes[place.dtype])
        buffer = bytearray(place.size)
        with place.file.open("rb") as stream:
            stream.seek(place.start)
            stream.readinto(buffer)
        return torch.frombuffer(buffer, dtype=dtypes[place.dtype]).view(place.shape)
