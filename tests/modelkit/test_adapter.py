"""PEFT adapters: loaded with their base, fingerprinted with it, refused in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model

from modelkit.adapter import base_of, with_scalar_head
from modelkit.chat import has_template
from modelkit.checkpoint import StageInfo, check, is_reward_model, load_model, load_tokenizer, save
from modelkit.errors import ModelError
from modelkit.fingerprint import fingerprint
from tests.evalkit.tiny import tiny_model, tiny_tokenizer


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, torch.Tensor]:
    """A base, an adapter beside it without a tokenizer of its own, and the logits they should give together."""
    base = tmp_path / "base"
    save(tiny_model(0), tiny_tokenizer(), base, StageInfo(stage="base"))
    tuned = get_peft_model(load_model(base), LoraConfig(r=4, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, weight in tuned.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.3)
    tuned.save_pretrained(str(tmp_path / "lora"))
    return base, tmp_path / "lora", tuned(input_ids=torch.arange(3, 40)[None]).logits.detach()


def test_an_adapter_answers_as_its_base_with_it(folders: tuple[Path, Path, torch.Tensor]) -> None:
    base, lora, expected = folders
    with torch.inference_mode():
        found, plain = (load_model(path)(input_ids=torch.arange(3, 40)[None]).logits for path in (lora, base))
    assert torch.allclose(found, expected, atol=1e-5)
    assert not torch.allclose(plain, expected, atol=1e-2)
    assert len(load_tokenizer(lora)) == len(load_tokenizer(base))
    assert has_template(lora)
    assert not is_reward_model(lora)
    assert load_model(lora, dtype=torch.bfloat16).dtype == torch.bfloat16


def test_the_base_may_be_named_from_the_adapters_folder(folders: tuple[Path, Path, torch.Tensor]) -> None:
    base, lora, _ = folders
    file = lora / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": "../base"}))
    assert base_of(lora).resolve() == base.resolve()


def test_the_fingerprint_covers_adapter_and_base(folders: tuple[Path, Path, torch.Tensor], tmp_path: Path) -> None:
    base, lora, _ = folders
    marks = {fingerprint(base), fingerprint(lora)}
    (base / "generation_config.json").write_text("{}")
    marks.add(fingerprint(lora))
    (lora / "adapter_model.safetensors").write_bytes(b"other")
    marks.add(fingerprint(lora))
    assert len(marks) == 4


def test_a_reward_adapter_brings_its_head(folders: tuple[Path, Path, torch.Tensor], tmp_path: Path) -> None:
    base, _, _ = folders
    model = get_peft_model(with_scalar_head(load_model(base)), LoraConfig(r=2, target_modules=["v_proj"], task_type="SEQ_CLS"))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "modules_to_save" in name:
                weight.fill_(0.25)
    model.save_pretrained(str(tmp_path / "rm"))
    assert is_reward_model(tmp_path / "rm")
    weights = load_model(tmp_path / "rm", "reward").state_dict()
    assert torch.all(weights["score.weight"] == 0.25)
    with pytest.raises(ModelError, match="is a reward model"):
        load_model(tmp_path / "rm")


def test_an_adapter_without_base_or_weights_is_refused(folders: tuple[Path, Path, torch.Tensor]) -> None:
    base, lora, _ = folders
    (lora / "adapter_model.safetensors").rename(lora / "adapter_model.bin")
    with pytest.raises(ModelError, match="as a pickle"):
        check(lora)
    base.rename(base.with_name("moved"))
    (lora / "adapter_model.bin").rename(lora / "adapter_model.safetensors")
    with pytest.raises(ModelError, match="is not there: set base_model_name_or_path"):
        check(lora)
