"""Each cause for a reward model that says the same for everything is made here, and found."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from modelkit import checkpoint
from modelkit.checkpoint import StageInfo
from modelkit.errors import ModelError
from tests.trainers.conftest import World
from trainers import lora
from trainers.cli import app
from trainers.doctor import examine
from trainers.job import tokenizer_for
from trainers.pocket import corpus
from trainers.recipe import Lora, RewardStage
from trainers.reward import RewardModelling, from_language_model
from trainers.strategies.plain import Single


@pytest.fixture(scope="module")
def trained(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a reward model that has learnt its pairs."""
    torch.manual_seed(1)
    model = from_language_model(world.model(), world.tokenizer)
    stage = RewardModelling(model, world.pairs, [], RewardStage(data=[], steps=30, lr=5e-3, tokens=800), seed=0)
    stage.begin(0)
    for step in range(30):
        stage.step(step)
    run = tmp_path_factory.mktemp("run")
    checkpoint.save(model, world.tokenizer, run / "rm", StageInfo(stage="rm"))
    rows = corpus.build(seed=0, limit=3).training["pairs.jsonl"][:80]
    (run / "data").mkdir()
    (run / "data" / "pairs.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return run


def changed(trained: Path, tmp_path: Path, world: World, **config: Any) -> Path:
    """The same model with another configuration."""
    model = checkpoint.load_model(trained / "rm", "reward")
    for key, value in config.items():
        setattr(model.config, key, value)
    checkpoint.save(model, world.tokenizer, tmp_path / "rm", StageInfo(stage="rm"))
    return tmp_path / "rm"


def causes(path: Path, data: Path) -> list[str]:
    return [finding.cause for finding in examine(path, data).findings]


@pytest.mark.parametrize("adapters", [None, Lora(rank=2)])
@pytest.mark.parametrize("padding", [None, "</s>"])
def test_a_reward_model_is_padded_with_a_token_of_its_own_whatever_its_base_has(
    world: World, tmp_path: Path, adapters: Lora | None, padding: str | None
) -> None:
    model, tokenizer = world.model(), copy.deepcopy(world.tokenizer)
    tokenizer.pad_token = padding
    model.config.pad_token_id = tokenizer.pad_token_id
    checkpoint.save(model, tokenizer, tmp_path / "base", StageInfo(stage="base"))
    fit = tokenizer_for(tmp_path / "base")
    trainee = lora.load(tmp_path / "base", "reward", RewardStage(data=[], steps=1, lr=1.0, lora=adapters), fit, seed=1)
    trainee.save(fit, tmp_path / "rm", StageInfo(stage="rm"), Single())
    found = {finding.cause for finding in examine(tmp_path / "rm").findings}
    assert not found & {"no padding token", "pad is the end-of-sequence token", "wrong last token"}


def test_a_healthy_model_has_no_findings(trained: Path) -> None:
    found = examine(trained / "rm")
    assert found.findings == []
    assert found.numbers["accuracy"] > 0.7
    assert found.numbers["margin"] > 0
    assert found.source.endswith("pairs.jsonl")


def test_pad_that_is_the_end_of_sequence_is_found(trained: Path, tmp_path: Path, world: World) -> None:
    path = changed(trained, tmp_path, world, pad_token_id=world.tokenizer.eos_token_id)
    assert "pad is the end-of-sequence token" in causes(path, trained / "data" / "pairs.jsonl")


def test_a_missing_padding_token_is_found(trained: Path, tmp_path: Path, world: World) -> None:
    assert "no padding token" in causes(changed(trained, tmp_path, world, pad_token_id=None), trained / "data" / "pairs.jsonl")


def test_a_head_read_at_the_wrong_token_is_found(trained: Path, tmp_path: Path, world: World) -> None:
    """With pad = eos transformers takes the reply's own end for padding and reads the token before it."""
    path = changed(trained, tmp_path, world, pad_token_id=world.tokenizer.eos_token_id)
    findings = [finding for finding in examine(path, trained / "data" / "pairs.jsonl").findings if finding.cause == "wrong last token"]
    assert findings
    assert "another token" in findings[0].seen


def test_truncation_that_cuts_the_answer_is_found(trained: Path, tmp_path: Path) -> None:
    row = {"messages": [{"role": "user", "content": "word " * 200}], "chosen": "Yes.", "rejected": "No."}
    data = tmp_path / "long.jsonl"
    data.write_text("\n".join([json.dumps(row)] * 4), encoding="utf-8")
    [finding] = [finding for finding in examine(trained / "rm", data).findings if finding.cause == "truncation cuts the answer"]
    assert "4 pairs become equal" in finding.seen


def test_identical_texts_are_found(trained: Path, tmp_path: Path) -> None:
    """Two answers that differ only in what the template strips."""
    tokenizer = checkpoint.load_tokenizer(trained / "rm")
    tokenizer.chat_template = str(tokenizer.chat_template).replace("message['content']", "(message['content'] | trim)")
    model = checkpoint.load_model(trained / "rm", "reward")
    checkpoint.save(model, tokenizer, tmp_path / "rm", StageInfo(stage="rm"))
    row = {"messages": [{"role": "user", "content": "One?"}], "chosen": "Yes.", "rejected": "Yes. "}
    data = tmp_path / "same.jsonl"
    data.write_text(json.dumps(row), encoding="utf-8")
    assert "identical texts" in causes(tmp_path / "rm", data)


def test_a_template_that_drops_the_reply_is_found(trained: Path, tmp_path: Path) -> None:
    tokenizer = checkpoint.load_tokenizer(trained / "rm")
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ m['content'] }}{% endif %}{% endfor %}{{ eos_token }}"
    )
    checkpoint.save(checkpoint.load_model(trained / "rm", "reward"), tokenizer, tmp_path / "rm", StageInfo(stage="rm"))
    found = causes(tmp_path / "rm", trained / "data" / "pairs.jsonl")
    assert found[0] == "template lacks the reply"
    assert "identical texts" in found


def test_a_template_without_an_end_of_sequence_is_found(trained: Path, tmp_path: Path) -> None:
    tokenizer = checkpoint.load_tokenizer(trained / "rm")
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    checkpoint.save(checkpoint.load_model(trained / "rm", "reward"), tokenizer, tmp_path / "rm", StageInfo(stage="rm"))
    assert "wrong last token" in causes(tmp_path / "rm", trained / "data" / "pairs.jsonl")


@pytest.mark.parametrize("head", ["zero", "random"])
def test_an_untrained_head_is_found(trained: Path, tmp_path: Path, world: World, head: str) -> None:
    language = world.model()
    torch.manual_seed(3)
    model: Any = from_language_model(language, world.tokenizer)
    if head == "zero":
        torch.nn.init.zeros_(model.score.weight)
    checkpoint.save(model, world.tokenizer, tmp_path / "rm", StageInfo(stage="rm"))
    assert "head not trained" in causes(tmp_path / "rm", trained / "data" / "pairs.jsonl")


def test_a_collapsed_model_is_found(trained: Path, tmp_path: Path, world: World) -> None:
    model: Any = checkpoint.load_model(trained / "rm", "reward")
    torch.nn.init.zeros_(model.base_model.norm.weight)
    checkpoint.save(model, world.tokenizer, tmp_path / "rm", StageInfo(stage="rm"))
    assert "the same reward for everything" in causes(tmp_path / "rm", trained / "data" / "pairs.jsonl")


def test_swapped_sides_are_found(trained: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (trained / "data" / "pairs.jsonl").read_text(encoding="utf-8").splitlines()]
    data = tmp_path / "swapped.jsonl"
    data.write_text("\n".join(json.dumps({**row, "chosen": row["rejected"], "rejected": row["chosen"]}) for row in rows), encoding="utf-8")
    assert causes(trained / "rm", data) == ["sides mixed up"]


def test_a_model_that_guesses_is_found(trained: Path, tmp_path: Path) -> None:
    """Sides swapped in every other pair: whatever was learnt, half of the pairs are ranked right."""
    lines = (trained / "data" / "pairs.jsonl").read_text(encoding="utf-8").splitlines()
    both = [row | {"chosen": row["rejected"], "rejected": row["chosen"]} if i % 2 else row for i, row in enumerate(map(json.loads, lines))]
    data = tmp_path / "mixed.jsonl"
    data.write_text("\n".join(map(json.dumps, both)), encoding="utf-8")
    model: Any = checkpoint.load_model(trained / "rm", "reward")
    model.score.weight.data *= 5  # a head that has been moved far from where it was drawn
    checkpoint.save(model, checkpoint.load_tokenizer(trained / "rm"), tmp_path / "rm", StageInfo(stage="rm"))
    assert causes(tmp_path / "rm", data) == ["no better than guessing"]


def test_without_data_made_up_pairs_are_asked(trained: Path, tmp_path: Path, world: World) -> None:
    assert examine(changed(trained, tmp_path, world)).source == "six pairs made up for this"


def test_a_language_model_is_refused(world: World, tmp_path: Path) -> None:
    checkpoint.save(world.model(), world.tokenizer, tmp_path / "sft", StageInfo(stage="sft"))
    with pytest.raises(ModelError, match="reward model is needed"):
        examine(tmp_path / "sft")


def test_the_command_says_what_it_found_and_its_exit_status_tells(trained: Path, tmp_path: Path, world: World) -> None:
    healthy = CliRunner().invoke(app, ["doctor", "rm", "-m", str(trained / "rm")])
    assert healthy.exit_code == 0
    assert "no cause for concern" in healthy.output
    sick = changed(trained, tmp_path, world, pad_token_id=world.tokenizer.eos_token_id)
    found = CliRunner().invoke(app, ["doctor", "rm", "-m", str(sick), "--data", str(trained / "data" / "pairs.jsonl")])
    assert found.exit_code == 1
    assert "pad is the end-of-sequence token" in found.output
    missing = CliRunner().invoke(app, ["doctor", "rm", "-m", str(tmp_path / "nothing")])
    assert missing.exit_code == 3
