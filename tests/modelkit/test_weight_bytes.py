"""What a checkpoint is expected to take in memory is what it takes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import PreTrainedTokenizerFast

from modelkit import checkpoint, weight_bytes
from modelkit.checkpoint import StageInfo
from modelkit.errors import ModelError
from modelkit.linear import pack
from tests.modelkit.test_gptq import quantised_copy
from tests.tiny_llama import language_model

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in 16 bits whose output layer, which is its embeddings, is large enough to be packed."""
    path = tmp_path_factory.mktemp("checkpoints") / "sft"
    model = language_model(2048, hidden_size=256, intermediate_size=512).half()
    checkpoint.save(model, tokenizer, path, StageInfo(stage="sft"))
    return path


@pytest.mark.parametrize("dtype", [None, torch.float32, torch.bfloat16, torch.float16])
def test_weights_count_in_the_dtype_they_are_loaded_in(folder: Path, dtype: torch.dtype | None) -> None:
    model = checkpoint.load_model(folder, dtype=dtype)
    assert weight_bytes.expected(folder, dtype) == pytest.approx(weight_bytes.held(model), rel=0.001)
    pack(model)
    assert weight_bytes.expected(folder, dtype, CPU) == pytest.approx(weight_bytes.held(model), rel=0.001)


def test_a_packed_output_layer_counts_beside_the_embeddings_it_shared(folder: Path) -> None:
    assert weight_bytes.expected(folder, packed_on=CPU) - weight_bytes.expected(folder) == 2048 * 256 * 4
    assert weight_bytes.expected(folder, packed_on=torch.device("cuda")) == weight_bytes.expected(folder)


@pytest.mark.parametrize("how", [{}, {"sym": False, "scattered": True}], ids=str)
def test_quantised_layers_count_as_they_are_stored(folder: Path, tmp_path: Path, how: dict[str, bool]) -> None:
    quantised = quantised_copy(folder, tmp_path / "quantised", **how)  # type: ignore[arg-type]
    for dtype in (None, torch.float32):
        model = checkpoint.load_model(quantised, dtype=dtype)
        pack(model)
        assert weight_bytes.expected(quantised, dtype, CPU) == pytest.approx(weight_bytes.held(model), rel=0.1)


def test_an_adapter_counts_with_its_base(folder: Path, tmp_path: Path) -> None:
    tuned = get_peft_model(checkpoint.load_model(folder), LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    tuned.save_pretrained(str(tmp_path / "lora"))
    adapters = 2 * 4 * (256 + 256) * 4
    assert weight_bytes.expected(tmp_path / "lora", torch.bfloat16) == weight_bytes.expected(folder) + adapters


def test_what_is_not_whole_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no config.json"):
        weight_bytes.expected(tmp_path)
