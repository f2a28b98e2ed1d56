"""GPTQ: the fast solver against the paper's recursion, every architecture against its own dequantised weights, kill and resume."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    BloomConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
)
from typer.testing import CliRunner

from modelkit import checkpoint
from modelkit.checkpoint import StageInfo
from modelkit.errors import UserError
from modelkit.gptq.layer import GPTQLinear, always_dequantise
from modelkit.run import Run, RunInfo, Stage
from tests.trainers.conftest import World
from trainers.cli import app
from trainers.data.dataset import Counts
from trainers.gptq import run as driver
from trainers.gptq import solver
from trainers.gptq.blocks import enter, find_blocks, groups_in_order, hessian_of
from trainers.gptq.calibration import sequences
from trainers.gptq.run import Settings, run
from trainers.gptq.solver import Grid, quantise, relative_error, round_to_nearest, scale_and_zero

SMALL: dict[str, Any] = {
    "vocab_size": 700,
    "max_position_embeddings": 128,
    "initializer_range": 0.1,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 3,
}
LLAMA = {**SMALL, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
MHA = {name: value for name, value in LLAMA.items() if name != "num_key_value_heads"}
ARCHITECTURES: dict[str, tuple[PretrainedConfig, list[list[str]]]] = {
    "llama": (
        LlamaConfig(**LLAMA, tie_word_embeddings=True),
        [["q_proj", "k_proj", "v_proj"], ["o_proj"], ["gate_proj", "up_proj"], ["down_proj"]],
    ),
    "qwen2": (Qwen2Config(**LLAMA), [["q_proj", "k_proj", "v_proj"], ["o_proj"], ["gate_proj", "up_proj"], ["down_proj"]]),
    "qwen3": (Qwen3Config(**LLAMA, head_dim=16), [["q_proj", "k_proj", "v_proj"], ["o_proj"], ["gate_proj", "up_proj"], ["down_proj"]]),
    "mistral": (MistralConfig(**LLAMA), [["q_proj", "k_proj", "v_proj"], ["o_proj"], ["gate_proj", "up_proj"], ["down_proj"]]),
    "gpt_neox": (GPTNeoXConfig(**MHA), [["query_key_value"], ["dense"], ["dense_h_to_4h"], ["dense_4h_to_h"]]),
    "bloom": (
        BloomConfig(vocab_size=700, hidden_size=32, n_layer=2, n_head=2, initializer_range=0.1),
        [["query_key_value"], ["dense"], ["dense_h_to_4h"], ["dense_4h_to_h"]],
    ),
    "gpt2": (
        GPT2Config(vocab_size=700, n_embd=32, n_layer=2, n_head=2, n_positions=128, initializer_range=0.1),
        [["c_attn"], ["c_proj"], ["c_fc"], ["c_proj"]],
    ),
    "opt": (
        OPTConfig(
            **{**SMALL, "hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "word_embed_proj_dim": 32}
        ),
        [["q_proj", "k_proj", "v_proj"], ["out_proj"], ["fc1"], ["fc2"]],
    ),
}


def literal(weight: torch.Tensor, hessian: torch.Tensor, grid: Grid) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes and dequantised weights by the recursion of Frantar et al. (eq. 2 and 3): the inverse Hessian itself, one column at a
    time, each made of what the others left, then taken out of the inverse by one step of Gaussian elimination."""
    inputs = weight.shape[1]
    size = inputs if grid.group == -1 else grid.group
    original, weight, hessian = weight.clone(), weight.clone(), hessian.clone()
    silent = hessian.diagonal() == 0
    hessian.diagonal()[silent] = 1
    weight[:, silent] = original[:, silent] = 0
    order = hessian.diagonal().argsort(descending=True, stable=True) if grid.act_order else torch.arange(inputs)
    inverse = torch.linalg.inv(hessian + solver.DAMPING[0] * hessian.diagonal().mean() * torch.eye(inputs, dtype=hessian.dtype))
    codes, result = torch.zeros_like(weight), torch.zeros_like(weight)
    for step, j in enumerate(order.tolist()):
        if grid.static_groups:
            group = j // size
            scale, zero = scale_and_zero(original[:, group * size : (group + 1) * size], grid)
        elif step % size == 0:
            scale, zero = scale_and_zero(weight[:, order[step : step + size]], grid)
        codes[:, j] = (torch.round(weight[:, j] / scale) + zero).clamp(0, grid.highest)
        result[:, j] = (codes[:, j] - zero) * scale
        weight = weight - torch.outer((weight[:, j] - result[:, j]) / inverse[j, j], inverse[j])
        inverse = inverse - torch.outer(inverse[:, j], inverse[j]) / inverse[j, j]
    return codes, result


def layer(inputs: int = 192, outputs: int = 24, rows: int = 500) -> tuple[torch.Tensor, torch.Tensor]:
    """A weight and the Hessian of correlated inputs, one of them always silent, in fp64."""
    torch.manual_seed(0)
    x = torch.randn(rows, inputs, dtype=torch.float64) + torch.randn(rows, 4, dtype=torch.float64) @ torch.randn(
        4, inputs, dtype=torch.float64
    )
    x[:, 5] = 0
    return torch.randn(outputs, inputs, dtype=torch.float64), x.T @ x


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("group", [32, 64, 128, -1])
@pytest.mark.parametrize("sym", [True, False])
@pytest.mark.parametrize(("act_order", "static_groups"), [(False, False), (True, False), (True, True), (False, True)])
def test_the_blocked_solver_equals_the_papers_recursion(bits: int, group: int, sym: bool, act_order: bool, static_groups: bool) -> None:
    weight, hessian = layer()
    grid = Grid(bits, group, sym, act_order, static_groups)
    solution = quantise(weight, hessian, grid)
    codes, result = literal(weight, hessian, grid)
    assert torch.equal(solution.codes.double(), codes)
    torch.testing.assert_close(solution.weight().double(), result)
    single = quantise(weight.float(), hessian.float(), grid).weight().double()
    errors = [relative_error(weight, candidate, hessian) for candidate in (result, single)]
    assert errors[1] == pytest.approx(errors[0], rel=0.02)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_gptq_loses_less_of_the_output_than_rounding_to_nearest(bits: int) -> None:
    weight, hessian = layer()
    grid = Grid(bits, 64)
    lost = [
        relative_error(weight, solution.weight().double(), hessian)
        for solution in (quantise(weight, hessian, grid), round_to_nearest(weight, grid))
    ]
    assert lost[0] < 0.7 * lost[1]


def test_scales_are_the_same_number_in_fp16_and_bf16_and_zero_points_fit_version_1() -> None:
    weight, _ = layer()
    for sym in (True, False):
        scale, zero = scale_and_zero(torch.cat([weight, weight.abs(), weight * 1e-9, weight * 0]), Grid(4, 64, sym))
        assert torch.equal(scale.half().double(), scale)
        assert torch.equal(scale.bfloat16().double(), scale)
        assert 1 <= int(zero.min()) <= int(zero.max()) <= 15


def test_damping_is_raised_until_the_hessian_can_be_inverted() -> None:
    weight, hessian = layer(64)
    assert quantise(weight, hessian, Grid(4, 32)).damping == solver.DAMPING[0]
    shifted = hessian - 0.05 * hessian.diagonal().mean() * torch.eye(64, dtype=torch.float64)
    assert quantise(weight, shifted, Grid(4, 32)).damping in solver.DAMPING[1:]


def test_a_hopeless_layer_is_rounded_to_nearest_and_says_why() -> None:
    weight, hessian = layer(64)
    for bad, says in ((-hessian, "can't be inverted"), (hessian * float("nan"), "not finite"), (hessian * 0, "no calibration token")):
        solution, report = driver._solve("layer", weight, bad, Grid(4, 32))
        assert says in (report.fallback or "")
        assert torch.equal(solution.codes, round_to_nearest(weight, Grid(4, 32)).codes)


@pytest.fixture
def dense(world: World, tmp_path: Path) -> Path:
    """A LLaMA-shaped checkpoint."""
    return saved(ARCHITECTURES["llama"][0], world, tmp_path / "dense")


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    rows = [[("user", f"What is {i}?"), ("assistant", f"It is {i}. 是{i}。")] for i in range(20)]
    lines = [json.dumps({"messages": [{"role": role, "content": text} for role, text in row]}) for row in rows]
    file = tmp_path / "chats.jsonl"
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


def saved(config: PretrainedConfig, world: World, path: Path) -> Path:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    for name, parameter in model.named_parameters():
        if name.endswith(".bias"):
            torch.nn.init.normal_(parameter, std=0.1)
    checkpoint.save(model, world.tokenizer, path, StageInfo(stage="sft"))
    return path


def quiet(text: str) -> None:
    """Nothing needs saying."""


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_layers_are_taken_in_the_order_they_run(name: str) -> None:
    config, expected = ARCHITECTURES[name]
    model = AutoModelForCausalLM.from_config(config).eval()
    blocks = find_blocks(model)
    hidden, calls = enter(model, blocks, torch.arange(5, 15)[None], gives_tuple=False)
    groups = groups_in_order(blocks.modules[0], hidden, calls[0])
    assert [[path.rpartition(".")[2] for path in group] for group in groups] == expected


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_is_quantised_written_and_loaded(name: str, world: World, chats: Path, tmp_path: Path) -> None:
    source = saved(ARCHITECTURES[name][0], world, tmp_path / "dense")
    out = tmp_path / "quantised"
    report = run(Settings(source, out, Grid(8, 32), [chats], samples=16), say=quiet)
    layers = sum(len(group) for group in ARCHITECTURES[name][1]) * 2
    assert len(report.layers) == layers
    assert not report.dense
    model = checkpoint.load_model(out, dtype=torch.float32)
    always_dequantise(model)
    assert sum(isinstance(module, GPTQLinear) for module in model.modules()) == layers
    ids = torch.arange(5, 45)[None]
    with torch.no_grad():
        found, exact = (m(input_ids=ids).logits for m in (model, checkpoint.load_model(source)))
    assert float((found - exact).norm() / exact.norm()) < 0.05
    description = json.loads((out / "quantize_config.json").read_text())
    assert AutoConfig.from_pretrained(out).quantization_config == description
    assert {**description, "meta": None} | {"bits": 8, "checkpoint_format": "gptq", "desc_act": False} == {**description, "meta": None}


@pytest.mark.parametrize(
    "grid", [Grid(4, 32, act_order=True), Grid(3, 32, sym=False), Grid(2, 64, act_order=True, static_groups=True)], ids=str
)
def test_what_is_written_is_what_was_calibrated(
    grid: Grid, dense: Path, chats: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "_TOLERANCE", 1e-5)
    report = run(Settings(dense, tmp_path / "quantised", grid, [chats]), say=quiet)
    assert all(layer.error <= layer.nearest_error for layer in report.layers)
    assert report.bytes_after < report.bytes_before


def test_a_killed_command_goes_on_and_ends_with_the_same_bytes(dense: Path, chats: Path, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(at: driver.At) -> None:
        if at.block == 1 and at.layer is not None:
            raise Killed

    settings = Settings(dense, tmp_path / "killed", Grid(4, 32), [chats])
    with pytest.raises(Killed):
        run(settings, kill, quiet)
    assert not settings.out.exists()
    assert run(settings, say=quiet).resumed_blocks == 1
    whole = replace(settings, out=tmp_path / "whole")
    assert run(whole, say=quiet).resumed_blocks == 0
    assert (settings.out / "model.safetensors").read_bytes() == (whole.out / "model.safetensors").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chats.jsonl", "dense", "killed", "whole"]


def test_blocks_of_other_settings_are_not_taken_up(dense: Path, chats: Path, tmp_path: Path) -> None:
    def kill(at: driver.At) -> None:
        if at.block == 1:
            raise KeyboardInterrupt

    settings = Settings(dense, tmp_path / "out", Grid(4, 32), [chats])
    said: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        run(settings, kill, quiet)
    assert run(replace(settings, grid=Grid(3, 32)), say=said.append).resumed_blocks == 0
    assert any("starting over" in line for line in said)


def test_layers_that_cannot_be_packed_stay_in_16_bits(world: World, chats: Path, tmp_path: Path) -> None:
    source = saved(LlamaConfig(**{**LLAMA, "intermediate_size": 40}), world, tmp_path / "dense")
    report = run(Settings(source, tmp_path / "out", Grid(4, 32), [chats]), say=quiet)
    assert sorted({name.rpartition(".")[2] for name in report.dense}) == ["down_proj", "gate_proj", "up_proj"]
    rules = json.loads((tmp_path / "out/quantize_config.json").read_text())["dynamic"]
    assert "-:^model\\.layers\\.0\\.mlp\\.down_proj$" in rules
    assert isinstance(checkpoint.load_model(tmp_path / "out").get_submodule("model.layers.0.mlp.down_proj"), torch.nn.Linear)


def test_a_large_model_is_written_in_shards(dense: Path, chats: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainers.gptq.export.SHARD_BYTES", 1000)
    run(Settings(dense, tmp_path / "out", Grid(4, 32), [chats]), say=quiet)
    assert len(list((tmp_path / "out").glob("model-*-of-00003.safetensors"))) == 3


def test_calibration_takes_chats_prompts_and_texts_and_depends_on_the_seed(world: World, chats: Path, tmp_path: Path) -> None:
    text, prompts = tmp_path / "text.txt", tmp_path / "prompts.jsonl"
    text.write_text("\n".join(f"Line {i}. 第{i}行。" for i in range(500)), encoding="utf-8")
    prompts.write_text("\n".join(json.dumps({"messages": [{"role": "user", "content": f"{i}?"}]}) for i in range(9)), encoding="utf-8")

    def draw(seed: int) -> tuple[list[list[int]], Counts]:
        counts = Counts()
        return sequences([chats, text, prompts], world.tokenizer, 12, 50, seed, counts), counts

    drawn, counts = draw(0)
    assert drawn == draw(0)[0]
    assert drawn != draw(1)[0]
    assert len(drawn) == counts.used == 12
    assert [len(ids) for ids in drawn[4:8]] == [50] * 4
    assert [source.rows for source in counts.sources] == [20, 500, 9]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (lambda dense, chats, tmp: ["--bits", "5"], "weights of 5 bits are not possible"),
        (lambda dense, chats, tmp: ["--group-size", "100"], "groups of 100 inputs are not possible"),
        (lambda dense, chats, tmp: ["--calibration", str(tmp / "no.jsonl")], "there is no calibration file"),
        (lambda dense, chats, tmp: ["--out", str(dense)], "is there already"),
        (lambda dense, chats, tmp: ["--model", str(tmp)], "has no config.json"),
    ],
)
def test_bad_input_gets_one_sentence(options: Callable, says: str, dense: Path, chats: Path, tmp_path: Path) -> None:
    arguments = ["gptq", "-m", str(dense), "--out", str(tmp_path / "out"), "--calibration", str(chats), *options(dense, chats, tmp_path)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code in (2, 3)
    assert says in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_the_command_quantises_and_shows_every_kind_of_layer(dense: Path, chats: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["gptq", "-m", str(dense), "--out", str(out), "--group-size", "32", "--calibration", str(chats)])
    assert result.exit_code == 0, result.output
    for kind in ("q_proj", "down_proj", "calibration sequences"):
        assert kind in result.stdout
    stage = checkpoint.read_stage(out)
    assert stage is not None
    assert stage.parent == "../dense"
    assert stage.metrics["layer_error"] < stage.metrics["layer_error_nearest"]
    again = CliRunner().invoke(app, ["gptq", "-m", str(out), "--out", str(tmp_path / "twice"), "--calibration", str(chats)])
    assert "is quantised already" in again.stderr


def test_a_stage_quantised_beside_its_run_is_shown_in_it_as_a_copy(dense: Path, chats: Path, tmp_path: Path) -> None:
    stage = Stage(name="rl", kind="rl", title={"en": "RL (PPO)", "zh": "强化学习 (PPO)"})
    info = RunInfo(name="Pocket", recipe="sha256:0", languages=["en", "zh"], stages=[stage])
    made = Run.create(tmp_path, info)
    shutil.copytree(dense, made.checkpoint("rl"))
    for _ in range(2):
        run(Settings(made.checkpoint("rl"), made.checkpoint("rl-gptq4"), Grid(group=32), [chats], 4), say=lambda text: None)
        shutil.rmtree(made.checkpoint("rl-gptq4"))
    copy = Stage(name="rl-gptq4", kind="rl", title={"en": "RL (PPO), 4 bits", "zh": "强化学习 (PPO)（4 位）"}, copy_of="rl")
    assert Run.open(tmp_path).info.stages == [stage, copy]


def test_without_calibration_a_runs_own_data_serve(world: World, chats: Path, tmp_path: Path) -> None:
    source = saved(ARCHITECTURES["llama"][0], world, tmp_path / "run/sft")
    with pytest.raises(UserError, match="name texts or conversations with --calibration"):
        from trainers.gptq.calibration import default_files

        default_files(source)
    (tmp_path / "run/data").mkdir()
    chats.rename(tmp_path / "run/data/chats.jsonl")
    stage = StageInfo(stage="sft", data=[checkpoint.DataSource(path="chats.jsonl", sha256="sha256:0", rows=20)])
    (source / "stage.json").write_text(stage.model_dump_json())
    result = CliRunner().invoke(app, ["gptq", "-m", str(source), "--out", str(tmp_path / "run/sft-gptq4"), "--group-size", "32"])
    assert result.exit_code == 0, result.output


def test_a_layer_that_no_token_reached_has_its_zeros_where_its_weights_are() -> None:
    layer = torch.nn.Linear(4, 2, device="meta")
    assert hessian_of(layer, layer, 4, []).device == layer.weight.device
