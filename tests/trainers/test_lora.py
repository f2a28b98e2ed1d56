"""Adapters: what is trained, what is written, and that merging changes no answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from transformers import PreTrainedModel

from modelkit import checkpoint
from modelkit.adapter import is_adapter
from modelkit.checkpoint import StageInfo
from modelkit.device import dtype_of
from modelkit.errors import UserError
from modelkit.gptq.layer import GPTQLinear
from modelkit.reward import last_token_values
from tests.trainers.conftest import World, built
from trainers import lora
from trainers.commands import Request, request, run
from trainers.dpo import PreferenceOptimisation
from trainers.gptq.run import Settings as QuantiseSettings
from trainers.gptq.run import run as quantise
from trainers.gptq.solver import Grid
from trainers.logprobs import Reference
from trainers.loop import StageLoop
from trainers.merge import merge
from trainers.modes import learning
from trainers.recipe import DpoStage, Lora, RewardStage, SftStage
from trainers.reward import RewardModelling, from_language_model
from trainers.sft import LanguageModelling
from trainers.strategies.plain import Single

Kind = Literal["language", "reward"]


@pytest.fixture
def base(world: World, tmp_path: Path) -> Path:
    checkpoint.save(world.model(), world.tokenizer, tmp_path / "base", StageInfo(stage="base"))
    return tmp_path / "base"


def sft_settings(**changes: Any) -> SftStage:
    return SftStage(**{"data": [], "steps": 4, "lr": 1e-2, "tokens": 200, "lora": Lora(rank=4), **changes})


def train(stage: StageLoop, steps: int = 3) -> None:
    stage.begin(0)
    for step in range(steps):
        stage.step(step)


def trained(world: World, base: Path, settings: SftStage) -> lora.Trainee:
    trainee = lora.load(base, "language", settings, world.tokenizer, seed=1)
    train(LanguageModelling("sft", trainee.model, world.tokenizer, world.examples, [], [], settings, seed=0))
    return trainee


def logits(model: PreTrainedModel, world: World) -> torch.Tensor:
    with torch.inference_mode():
        return torch.cat([model(torch.tensor([example.ids]), use_cache=False).logits[0] for example in world.examples[:3]])


@pytest.mark.parametrize(
    "options", [{}, {"rslora": True, "alpha": 8.0}, {"init": "pissa"}, {"init": "pissa", "rslora": True}, {"targets": ["q_proj", "v_proj"]}]
)
def test_a_saved_adapter_and_its_merged_model_give_the_trained_logits(world: World, base: Path, options: dict[str, Any]) -> None:
    settings = sft_settings(lora=Lora(rank=4, **options))
    trainee = trained(world, base, settings)
    expected = logits(trainee.model, world)
    adapter, merged = base.parent / "sft", base.parent / "merged"
    trainee.save(world.tokenizer, adapter, StageInfo(stage="sft", steps=3), Single())
    assert is_adapter(adapter)
    assert json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"] == "../base"
    assert float((expected - logits(checkpoint.load_model(base), world)).abs().max()) > 1e-3, "training changed something"
    torch.testing.assert_close(logits(checkpoint.load_model(adapter), world), expected, atol=1e-5, rtol=0)
    assert merge(adapter, merged).steps == 3
    assert not is_adapter(merged)
    torch.testing.assert_close(logits(checkpoint.load_model(merged), world), expected, atol=1e-5, rtol=0)


def test_only_adapters_are_trained_and_the_base_is_as_it_was(world: World, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {name: tensor.clone() for name, tensor in checkpoint.load_model(base).state_dict().items()}
    trainee = trained(world, base, sft_settings())
    learnt = [name for name, parameter in trainee.model.named_parameters() if parameter.requires_grad]
    count = sum(parameter.numel() for parameter in trainee.model.parameters() if parameter.requires_grad)
    assert f"training {count:,} of" in capsys.readouterr().out
    assert learnt
    assert all("lora_" in name for name in learnt)
    after = {name.replace(".base_layer", ""): tensor for name, tensor in trainee.model.state_dict().items()}
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_a_reward_models_head_is_trained_and_saved_with_its_adapter(world: World, base: Path) -> None:
    settings = RewardStage(data=[], steps=4, lr=1e-2, tokens=300, lora=Lora(rank=4))
    trainee = lora.load(base, "reward", settings, world.tokenizer, seed=1)
    stage = RewardModelling(trainee.model, world.pairs, [], settings, seed=0)
    head = [p for name, p in trainee.model.named_parameters() if "score" in name and p.requires_grad]
    before = head[0].detach().clone()
    train(stage)
    assert not torch.equal(before, head[0])
    sequences = [pair.chosen for pair in world.pairs[:5]]
    with torch.inference_mode():
        expected = last_token_values(trainee.model, sequences)
    adapter, merged = base.parent / "rm", base.parent / "merged"
    trainee.save(
        world.tokenizer, adapter, StageInfo(stage="rm"), Single(), {"reward_reference.json": {"rewards": [0.0], "mean": 0.0, "sd": 1.0}}
    )
    merge(adapter, merged)
    assert (merged / "reward_reference.json").is_file()
    for path in (adapter, merged):
        with torch.inference_mode():
            found = last_token_values(checkpoint.load_model(path, "reward"), sequences)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_a_stage_with_adapters_may_follow_another(world: World, base: Path) -> None:
    first, second = base.parent / "sft", base.parent / "dpo"
    trained(world, base, sft_settings()).save(world.tokenizer, first, StageInfo(stage="sft"), Single())
    trainee = trained(world, first, sft_settings())
    trainee.save(world.tokenizer, second, StageInfo(stage="dpo"), Single())
    torch.testing.assert_close(logits(checkpoint.load_model(second), world), logits(trainee.model, world), atol=1e-5, rtol=0)


def test_a_stage_in_full_may_follow_one_with_adapters(world: World, base: Path) -> None:
    """PEFT freezes what it puts adapters on; once they are merged for the next stage, all of it learns again."""
    folder = base.parent / "sft"
    trained(world, base, sft_settings()).save(world.tokenizer, folder, StageInfo(stage="sft"), Single())
    before = logits(checkpoint.load_model(folder), world)
    trainee = trained(world, folder, sft_settings(lora=None))
    assert all(parameter.requires_grad for parameter in trainee.model.parameters())
    assert not torch.equal(logits(trainee.model, world), before)


@pytest.mark.parametrize("kind", ["language", "reward"])
def test_recomputing_layers_changes_no_gradient_and_really_recomputes(world: World, base: Path, kind: Kind) -> None:
    gradients, calls = [], []
    for recompute in (False, True):
        settings = sft_settings(gradient_checkpointing=recompute, lora=None)
        model = lora.load(base, kind, settings, world.tokenizer, seed=1).model
        count: list[int] = []
        model.get_submodule("model.layers.0.input_layernorm").register_forward_pre_hook(lambda *_, count=count: count.append(1))
        with learning(model):
            last_token_values(model, [world.examples[0].ids]).sum().backward() if kind == "reward" else model(
                torch.tensor([world.examples[0].ids]), use_cache=False
            ).logits.square().mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
        calls.append(len(count))
    assert calls == [1, 2]
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-6, rtol=0)


def test_adapters_drop_out_while_learning_only(world: World, base: Path) -> None:
    model = trained(world, base, sft_settings(lora=Lora(rank=4, dropout=0.5))).model
    ids = torch.tensor([world.examples[0].ids])
    still = model(ids, use_cache=False).logits
    with learning(model):
        assert not torch.equal(model(ids, use_cache=False).logits, model(ids, use_cache=False).logits)
    assert torch.equal(model(ids, use_cache=False).logits, still)
    with learning(model, dropout=False):
        assert torch.equal(model(ids, use_cache=False).logits, still)


def test_frozen_weights_are_kept_in_the_dtype_asked_for_and_adapters_in_fp32(world: World, base: Path) -> None:
    model = lora.load(base, "language", sft_settings(dtype="bf16"), world.tokenizer, seed=1).model
    dtypes = {("lora_" in name): parameter.dtype for name, parameter in model.named_parameters()}
    assert dtypes == {False: torch.bfloat16, True: torch.float32}
    full = lora.load(base, "language", sft_settings(dtype="bf16", lora=None), world.tokenizer, seed=1).model
    assert {parameter.dtype for parameter in full.parameters()} == {torch.float32}


def test_targets_that_are_not_there_and_merging_a_whole_model_are_refused(world: World, base: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="don't fit the model"):
        lora.load(base, "language", sft_settings(lora=Lora(targets=["q_prox"])), world.tokenizer, seed=1)
    with pytest.raises(UserError, match="nothing to merge"):
        merge(base, tmp_path / "out")
    trained(world, base, sft_settings()).save(world.tokenizer, tmp_path / "sft", StageInfo(stage="sft"), Single())
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="is there already"):
        merge(tmp_path / "sft", tmp_path / "out")


@pytest.fixture(scope="module")
def quantised(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gptq")
    checkpoint.save(world.model(), world.tokenizer, folder / "base", StageInfo(stage="base"))
    texts = folder / "texts.jsonl"
    texts.write_text("".join(json.dumps({"text": world.tokenizer.decode(e.ids)}) + "\n" for e in world.examples[:40]), encoding="utf-8")
    settings = QuantiseSettings(folder / "base", folder / "int4", Grid(4, 32, True, False, False), [texts], 8, 0, torch.device("cpu"))
    quantise(settings, lambda *_: None, lambda *_: None)
    return folder / "int4"


def stage_of(name: str, model: PreTrainedModel, start: Path, world: World) -> StageLoop:
    adapters: dict[str, Any] = {"data": [], "steps": 8, "lr": 1e-2, "tokens": 300, "lora": Lora(rank=4)}
    if name == "sft":
        return LanguageModelling("sft", model, world.tokenizer, world.examples, world.examples[:20], [], SftStage(**adapters), 0)
    if name == "rm":
        return RewardModelling(model, world.pairs, world.pairs[:20], RewardStage(**adapters), 0)
    reference = Reference(lambda: checkpoint.load_model(start, dtype=torch.float32), "int4")
    return PreferenceOptimisation(model, reference, world.tokenizer, world.pairs, world.pairs[:20], [], DpoStage(**adapters), 0)


@pytest.mark.parametrize("name", ["sft", "rm", "dpo"])
def test_adapters_are_trained_on_a_frozen_4_bit_base(world: World, quantised: Path, tmp_path: Path, name: str) -> None:
    kind: Kind = "reward" if name == "rm" else "language"
    trainee = lora.load(quantised, kind, sft_settings(), world.tokenizer, seed=1)
    assert any(isinstance(module, GPTQLinear) for module in trainee.model.modules())
    stage = stage_of(name, trainee.model, quantised, world)
    before = stage.evaluate()["eval_loss"]
    train(stage, 8)
    assert stage.evaluate()["eval_loss"] < before
    trainee.save(world.tokenizer, tmp_path / name, StageInfo(stage=name), Single())
    loaded = checkpoint.load_model(tmp_path / name, kind)
    assert any(isinstance(module, GPTQLinear) for module in loaded.modules())
    with pytest.raises(UserError, match="quantised"):
        merge(tmp_path / name, tmp_path / "merged")


def test_a_quantised_base_without_adapters_is_refused(world: World, quantised: Path) -> None:
    with pytest.raises(UserError, match="set lora"):
        lora.load(quantised, "language", sft_settings(lora=None), world.tokenizer, seed=1)
    with pytest.raises(UserError, match="pissa takes its start from whole weights"):
        lora.load(quantised, "language", sft_settings(lora=Lora(init="pissa")), world.tokenizer, seed=1)


@pytest.fixture(scope="module")
def beside(quantised: Path, world: World) -> Path:
    """The folder of the quantised base, with a reward model and prompts."""
    folder = quantised.parent
    checkpoint.save(from_language_model(world.model(), world.tokenizer), world.tokenizer, folder / "rm", StageInfo(stage="rm"))
    rows = [{"messages": [{"role": "user", "content": prompt.text}]} for prompt in world.prompts[:8]]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def asked(stage: str, start: Path, beside: Path, out: Path, *settings: str) -> Request:
    few = ["steps=1", "lr=1e-3", "prompts=4", "max_tokens=6", "lora.rank=2", *settings]
    return request(stage, None, few, out, 0, start, beside / "prompts.jsonl", beside / "rm")


PPO = ["normalise_rewards=false"]
GRPO = ["samples=2", "kl_coef=0.1", "rewards=[{name: reward_model}]"]


@pytest.mark.parametrize(("stage", "settings", "number"), [("rl", PPO, "kl_k3"), ("grpo", GRPO, "kl_k3_per_token")])
def test_a_policy_on_a_4_bit_base_begins_where_its_reference_is(
    beside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, settings: list[str], number: str
) -> None:
    made = built(monkeypatch, asked(stage, beside / "int4", beside, tmp_path, *settings))
    assert made.step(0).numbers[number] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_models_that_only_answer_are_kept_in_what_is_computed_in(
    beside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    settings = [f"dtype={dtype}"]
    ppo = built(monkeypatch, asked("rl", beside / "base", beside, tmp_path / "ppo", *PPO, *settings))
    shared = built(monkeypatch, asked("rl", beside / "base", beside, tmp_path / "shared", *PPO, *settings, "share_backbone=true"))
    grpo = built(monkeypatch, asked("grpo", beside / "base", beside, tmp_path / "grpo", *GRPO, *settings))
    backbone = shared.cast._model
    frozen = [ppo.cast._models["reference"], ppo._reward, shared._reward, backbone, grpo._reference, grpo._judge.model]
    assert {p.dtype for model in frozen for p in model.parameters() if not p.requires_grad or model is not backbone} == {dtype_of(dtype)}
    assert {p.dtype for p in backbone.parameters() if p.requires_grad} == {torch.float32}


def test_one_backbone_is_not_taken_of_a_quantised_base(beside: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is quantised, and share_backbone ends with whole models"):
        run(asked("rl", beside / "int4", beside, tmp_path, *PPO, "share_backbone=true"), Single())


@pytest.mark.parametrize("stage", ["dpo", "kto"])
def test_preferences_are_learnt_on_a_4_bit_base_from_where_the_reference_is(
    quantised: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    rows = [{"messages": [{"role": "user", "content": f"{i}?"}], "chosen": "Yes.", "rejected": "No."} for i in range(8)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    few = ["steps=1", "lr=1e-3", "lora.rank=2", "held_out=0.5"]
    made = built(monkeypatch, request(stage, None, few, tmp_path / "run", 0, quantised, tmp_path / "pairs.jsonl"))
    assert made.evaluate()["eval_margin"] == pytest.approx(0, abs=1e-6)
