"""A plan's parameters are exact, its memory is that of a real step, and sharding divides what it says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Config, LlamaConfig, LlamaForCausalLM, Qwen2Config
from typer.testing import CliRunner

from tests.trainers import memory_of_a_step as step
from trainers.cli import app
from trainers.plan.estimate import COLOSSALAI, Request, plan
from trainers.plan.footprint import Pass, measure
from trainers.recipe import Lora

TINY = LlamaConfig(hidden_size=64, intermediate_size=128, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, vocab_size=300)
ROOT = Path(__file__).parents[2]


def request(**changes: Any) -> Request:
    return Request(**{"config": TINY, "stage": "sft", "tokens": 512, "micro_tokens": 256, "length": 64, **changes})


@pytest.mark.parametrize("tied", [True, False])
def test_parameters_are_counted_exactly(tied: bool) -> None:
    for config in (
        LlamaConfig(**{**TINY.to_dict(), "tie_word_embeddings": tied}),
        Qwen2Config(
            hidden_size=64,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            vocab_size=99,
            tie_word_embeddings=tied,
        ),
        GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=77),
    ):
        from transformers import AutoModelForCausalLM

        real = AutoModelForCausalLM.from_config(config)
        assert measure(config, "language", Pass(64, 32)).parameters == sum(p.numel() for p in real.parameters())


def test_adapters_are_counted_exactly() -> None:
    from peft import LoraConfig, get_peft_model

    real = get_peft_model(LlamaForCausalLM(TINY), LoraConfig(r=5, target_modules="all-linear", task_type="CAUSAL_LM"))
    trained, everything = real.get_nb_trainable_parameters()
    found = measure(TINY, "language", Pass(64, 32, lora=Lora(rank=5)))
    assert (found.trained, found.parameters) == (trained, everything)


def test_the_activations_of_a_llama_layer_are_those_of_the_formula() -> None:
    """Kept per token: two norms' input, normalised and output, q, k, v, attention's output, and four vectors of the feed-forward."""
    deep, shallow = (
        measure(
            LlamaConfig(hidden_size=512, intermediate_size=1376, num_hidden_layers=n, num_attention_heads=8),
            "language",
            Pass(256, 64, 0.01),
        )
        for n in (4, 2)
    )
    kept = 8 * 512 + 2 * 512 + 4 * 1376
    assert (deep.activations - shallow.activations) / 2 / 256 / 4 == pytest.approx(kept, rel=0.08)


def test_recomputing_keeps_a_layers_input_only() -> None:
    whole, recomputed = (measure(TINY, "language", Pass(1024, 256, 0.001, recompute=flag)) for flag in (False, True))
    assert recomputed.activations < 0.5 * whole.activations
    assert recomputed.parameters == whole.parameters


@pytest.mark.slow
@pytest.mark.parametrize("micro_tokens", [2048, 1024])
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read from /proc")
def test_the_estimate_is_within_15_percent_of_the_measured_peak(micro_tokens: int) -> None:
    command = [sys.executable, "-m", "tests.trainers.memory_of_a_step", str(micro_tokens)]
    measured = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
    found = plan(Request(LlamaConfig(**step.SHAPE), "sft", step.TOKENS, micro_tokens, step.LENGTH))
    assert found.parameters == measured["parameters"]
    assert found.memory["single"].device == pytest.approx(measured["peak"], rel=0.15)


def test_sharding_divides_what_it_says() -> None:
    found = plan(request(devices=4))
    memory = found.memory
    p = found.parameters
    assert list(memory) == ["ddp", "zero1", "zero2", "zero3", "zero3_offload"]
    assert (memory["ddp"].weights, memory["ddp"].gradients, memory["ddp"].optimizer) == (4 * p, 4 * p, 8 * p)
    assert memory["zero1"].optimizer == memory["zero2"].optimizer == memory["zero3"].optimizer == 2 * p
    assert memory["zero2"].gradients == memory["zero3"].gradients == p
    assert memory["zero3"].weights < memory["zero2"].weights == 5 * p
    assert memory["zero3_offload"].host == 16 * p


def test_colossalais_stages_divide_a_second_copy_of_the_weights_as_well() -> None:
    plans = {name: plan(request(devices=4), name) for name in COLOSSALAI}
    found = {name: one.memory[name] for name, one in plans.items()}
    p = plans["colossalai_ddp"].parameters
    assert {one.weights for one in found.values()} == {4 * p}
    assert [one.gradients for one in found.values()] == [4 * p, 4 * p, p, p]
    assert [one.optimizer for one in found.values()] == [8 * p, 3 * p, 3 * p, 0]
    assert [one.host for one in found.values()] == [0, 0, 0, 12 * p]


def test_the_cheapest_strategy_that_fits_is_the_first_that_does() -> None:
    found = plan(request(devices=8, micro_tokens=64, tokens=8 * 64))
    by_need = {name: memory.device for name, memory in found.memory.items()}
    assert found.cheapest(max(by_need.values())) == "ddp"
    assert found.cheapest((by_need["ddp"] + by_need["zero1"]) / 2) == "zero1"
    assert found.cheapest(1) is None
    assert found.cheapest(by_need["ddp"] / 1e9, host=0) is None


def test_stages_count_the_models_that_are_there() -> None:
    sft, ppo, shared, grpo, compared, judged = (
        plan(one).memory["single"]
        for one in (
            request(),
            request(stage="ppo"),
            request(stage="ppo", lora=Lora(rank=4), share=True),
            request(stage="grpo"),
            request(stage="grpo", lora=Lora(rank=4), reference=True),
            request(stage="grpo", judge=True),
        )
    )
    assert ppo.weights == pytest.approx(4 * sft.weights, rel=0.15), "actor, critic, reference and reward model"
    assert shared.weights == pytest.approx(2 * sft.weights, rel=0.3), "one backbone and the reward model"
    assert grpo.weights == sft.weights
    assert compared.weights == pytest.approx(2 * sft.weights, rel=0.15), "adapters don't do away with the reference"
    assert judged.weights == pytest.approx(2 * sft.weights, rel=0.15)
    assert sft.cache == 0
    assert ppo.cache == 64 * 64 * (2 * 4 * 2 * 16 * 4)


def test_the_work_of_a_step_is_three_forward_passes_per_token() -> None:
    found = plan(request(length=64))
    body = sum(p.numel() for name, p in LlamaForCausalLM(TINY).named_parameters() if p.dim() > 1 and "embed" not in name)
    attention = 4 * 4 * 64 * 512 * 65 // 2
    assert found.flops == pytest.approx(3 * (2 * body * 512 + attention), rel=1e-6)
    assert plan(request(length=64, recompute=True)).flops == pytest.approx(found.flops * 4 / 3)
    assert found.seconds(1e9, 2) == found.flops / 2e9


def test_bf16_keeps_fp32_weights_and_casts_beside_them() -> None:
    memory = plan(request(devices=2, dtype=torch.bfloat16)).memory
    p = plan(request()).parameters
    assert memory["ddp"].weights == 4 * p
    assert memory["zero2"].weights == 2 * p + 2 * p


def said(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["plan", *map(str, arguments)], env={"COLUMNS": "140"})
    return result.exit_code, " ".join(result.output.split())


def test_the_command_names_what_fits_from_a_config_alone(tmp_path: Path) -> None:
    TINY.save_pretrained(tmp_path)
    options: list[str | Path] = ["-m", tmp_path, "--stage", "dpo", "--tokens", "256", "--length", "64", "--tflops", "1"]
    status, output = said(*options, "--gpu-memory", "1", "--gpus", "2")
    assert status == 0, output
    assert "ddp is the cheapest strategy that fits 2 × 1.0 GiB" in output
    assert "tokens/s, at 1 TFLOP/s per device" in output
    status, output = said(*options, "--gpu-memory", "0.000001")
    assert status == 0
    assert "nothing fits" in output
    assert "--lora-rank 16" in output


def test_a_recipe_is_planned_stage_by_stage() -> None:
    words: list[str | Path] = ["--config", ROOT / "recipes/pocket-tiny.yaml", "--gpu-memory", "8"]
    status, output = said(*words)
    assert status == 0, output
    assert all(f"{stage} · a model of" in output for stage in ("pretrain", "sft", "rm", "ppo"))


def test_a_recipe_is_planned_with_its_overrides_and_with_the_strategy_asked_for() -> None:
    words: list[str | Path] = ["--config", ROOT / "recipes/pocket-tiny.yaml", "--gpu-memory", "8", "--gpus", "2"]
    words += ["--strategy", "colossalai_zero1"]
    (status, whole), (_, smaller) = said(*words), said(*words, "--set", "model.layers=1")
    assert status == 0, whole
    assert "colossalai_zero1 is the cheapest strategy" in whole
    sizes = [int(re.findall(r"a model of ([\d,]+) parameters", said)[0].replace(",", "")) for said in (whole, smaller)]
    assert sizes[1] < sizes[0]


@pytest.mark.parametrize(
    ("options", "status", "says"),
    [
        ([], 2, "nothing to plan"),
        (["-m", ".", "--set", "ppo.dtype=bf16"], 2, "name one with --config"),
        (["-m", "gone"], 3, "no config.json at gone"),
        (["-m", ".", "--strategy", "zero9", "--gpu-memory", "1"], 2, "can't be planned"),
    ],
)
def test_what_can_not_be_planned_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], status: int, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    TINY.save_pretrained(tmp_path)
    found = said(*options)
    assert found[0] == status
    assert says in found[1]
