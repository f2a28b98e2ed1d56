"""Every damaged checkpoint gets one sentence; a whole one loads with the same weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from modelkit import checkpoint
from modelkit.errors import UserError
from modelkit.fingerprint import fingerprint


def test_a_saved_checkpoint_loads_with_the_same_weights(saved: Path, model: PreTrainedModel) -> None:
    loaded = checkpoint.load_model(saved)
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    stage = checkpoint.read_stage(saved)
    assert stage is not None
    assert stage.metrics == {"loss": 1.5}


def test_transformers_itself_loads_it(saved: Path, model: PreTrainedModel) -> None:
    ids = AutoTokenizer.from_pretrained(saved)("The capital", return_tensors="pt")["input_ids"]
    plain = AutoModelForCausalLM.from_pretrained(saved)
    assert torch.equal(plain(ids).logits, model(ids).logits)


def _truncate(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])


def _pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _foreign_tokenizer(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 100}))


def _missing_shard(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _other_shape(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda folder: shutil.rmtree(folder), "there is no checkpoint"),
        (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "not valid JSON"),
        (lambda folder: (folder / "model.safetensors").unlink(), "has no weights"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"junk"), "no safetensors file"),
        (_truncate, "is cut off"),
        (_pickle, "as a pickle"),
        (_missing_shard, "lacks model-00001-of-00002.safetensors"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "has no tokenizer"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "can't be read"),
        (_foreign_tokenizer, "don't belong together"),
        (_other_shape, "lacks 9 weights"),
    ],
)
def test_a_damaged_checkpoint_is_refused_in_one_sentence(saved: Path, tmp_path: Path, damage: Callable[[Path], None], says: str) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(saved, folder)
    damage(folder)
    with pytest.raises(UserError) as raised:
        checkpoint.load_tokenizer(folder)
        checkpoint.load_model(folder)
    message = str(raised.value)
    assert says in message
    assert "damaged" in message
    assert "\n" not in message


def test_a_reward_model_is_not_taken_for_a_language_model(saved: Path, reward_checkpoint: Path) -> None:
    with pytest.raises(UserError, match="is a reward model"):
        checkpoint.load_model(reward_checkpoint)
    with pytest.raises(UserError, match="is a language model"):
        checkpoint.load_model(saved, "reward")


def test_the_fingerprint_follows_the_weights_and_not_the_notes(saved: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(saved, copy)
    (copy / "stage.json").write_text("{}")
    assert fingerprint(copy) == fingerprint(saved)
    content = bytearray((copy / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (copy / "model.safetensors").write_bytes(content)
    assert fingerprint(copy) != fingerprint(saved)


def test_a_damaged_stage_file_is_named(saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved, tmp_path / "c")
    (tmp_path / "c" / "stage.json").write_text('{"format": 2}')
    with pytest.raises(UserError, match="stage.json is damaged"):
        checkpoint.read_stage(tmp_path / "c")
