"""Bad input gets one sentence and a non-zero exit; a whole tiny run ends with its report card."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from modelkit import checkpoint
from modelkit.adapter import is_adapter
from modelkit.errors import UserError
from modelkit.run import Run
from trainers import reading, report
from trainers.pocket import corpus
from trainers.recipe import Bar

ROOT = Path(__file__).resolve().parents[2]


def trainers(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "trainers", *map(str, arguments)]
    # several processes would need as many CUDA devices
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)


def refused(says: str, *arguments: str | Path, status: int = 2) -> None:
    done = trainers(*arguments)
    assert done.returncode == status, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.stderr
    assert says in lines[0]
    assert "Traceback" not in done.stderr


def test_a_tiny_run_writes_every_checkpoint_and_a_report_card(tmp_path: Path) -> None:
    out = tmp_path / "tiny"
    adapted = "dpo={data: [{path: pairs.jsonl}], lora: {rank: 4}, steps: 2, lr: 1.0e-3}"
    done = trainers("run", ROOT / "recipes" / "pocket-tiny.yaml", "--out", out, "--threads", "1", "--set", adapted)
    assert done.returncode == 0, done.stderr
    assert [stage.name for stage in Run.open(out).ready()] == ["base", "sft", "rm", "critic", "rl", "dpo"]
    card = json.loads((out / "report.json").read_text(encoding="utf-8"))
    metrics = card["metrics"]
    assert {"choice.perplexity", "choice.letters", "answer", "pairs[truth]", "reward.win_rate", "reward.kl_to_reference", "text"} <= set(
        metrics
    )
    assert set(metrics["answer"]) == {"base", "sft", "rl", "dpo"}
    assert set(metrics["pairs"]) == {"rm"}
    assert set(metrics["reward"]) == {"rl", "dpo"}
    assert {"torch", "transformers", "threads"} <= set(card["environment"])
    assert "| answer |" in (out / "report.md").read_text(encoding="utf-8")
    progress = json.loads((out / "progress.json").read_text(encoding="utf-8"))
    assert progress["state"] == "done"
    assert progress["fraction"] == 1.0


@pytest.mark.slow
def test_a_run_of_every_method_with_adapters_on_two_processes_ends_with_all_of_them(tmp_path: Path) -> None:
    """The documented recipe, with fewer and smaller steps."""
    recipe, out = ROOT / "recipes" / "pocket-methods.yaml", tmp_path / "methods"
    names = ("base", "sft", "rm", "ppo", "dpo", "kto", "grpo")
    few = [word for name in names for setting in ("steps=2", "tokens=256", "optimiser=adamw") for word in ("--set", f"{name}.{setting}")]
    few += [
        "--set",
        "world.limit=1",
        "--set",
        "rm.reference_prompts=8",
        "--set",
        "evaluate=[]",
        "--set",
        "ppo.prompts=4",
        "--set",
        "grpo.prompts=2",
        "--threads",
        "1",
    ]
    few += ["--nproc", "2", "--strategy", "zero2"]
    done = trainers("run", recipe, "--out", out, *few)
    assert done.returncode == 0, done.stderr
    assert [stage.name for stage in Run.open(out).ready()] == ["base", "sft", "rm", "critic", "rl", "dpo", "kto", "grpo"]
    for name in ("rm", "critic", "rl", "dpo", "kto", "grpo"):
        assert is_adapter(out / name)
        checkpoint.load_model(out / name, "reward" if name in ("rm", "critic") else "language")
    card = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert [stage["name"] for stage in card["stages"]] == ["data", "tokenizer", "base", "sft", "rm", "rl", "dpo", "kto", "grpo"]
    assert json.loads((out / "progress.json").read_text(encoding="utf-8"))["state"] == "done"


def test_impossible_requests_are_refused(tmp_path: Path) -> None:
    stories = ROOT / "recipes" / "stories-chat.yaml"
    refused("there is no recipe at", "run", tmp_path / "none.yaml", "--out", tmp_path / "x")
    refused("give one with --base", "run", stories, "--out", tmp_path / "x")
    refused("name their folder with --data", "run", stories, "--out", tmp_path / "x", "--base", tmp_path)
    none = tmp_path / "none"
    refused("there is no checkpoint at", "run", stories, "--out", tmp_path / "x", "--base", none, "--data", tmp_path, status=3)
    refused("leave --base out", "run", ROOT / "recipes" / "pocket-tiny.yaml", "--out", tmp_path / "x", "--base", tmp_path)
    assert not (tmp_path / "x").exists()


def test_what_a_later_stage_lacks_is_said_before_the_first_one_begins(tmp_path: Path) -> None:
    tiny, out = ROOT / "recipes" / "pocket-tiny.yaml", tmp_path / "x"
    grpo = "grpo={data: [{path: prompts.jsonl}], rewards: [{name: breif}], steps: 1, lr: 1.0e-3}"
    refused("there is no reward called 'breif'", "run", tiny, "--out", out, "--set", grpo)
    (tmp_path / "data").mkdir()
    corpus.write(corpus.build(seed=0, limit=1), tmp_path / "data")
    missing = "dpo={data: [{path: gone.jsonl}], steps: 1, lr: 1.0e-3}"
    refused("there is no data file at", "run", tiny, "--out", out, "--set", missing, "--data", tmp_path / "data", status=4)
    assert not out.exists()


def test_missing_data_is_named_after_the_base_was_checked(tmp_path: Path, shared: Path) -> None:
    stories = ROOT / "recipes" / "stories-chat.yaml"
    arguments: list[str | Path] = ["run", stories, "--out", tmp_path / "x", "--base", shared / "data" / "stories260k"]
    refused("there is no data file at", *arguments, "--data", tmp_path, status=4)
    cut = tmp_path / "cut.json"
    cut.write_text('[{"instruction": "q"')
    few = ("--set", "steps=1", "--set", "lr=1e-3")
    one = ("--data", cut, "--out", tmp_path / "y", *few)
    refused("cut.json:1 is not valid JSON", "rm", "-m", shared / "data" / "stories260k", *one, status=4)


@pytest.mark.slow
def test_real_data_trains_a_real_checkpoint_and_counts_what_did_not_fit(tmp_path: Path, shared: Path) -> None:
    out = tmp_path / "stories"
    few = [
        "--set",
        "sft.steps=3",
        "--set",
        "rm.steps=3",
        "--set",
        "ppo.steps=1",
        "--set",
        "ppo.prompts=8",
        "--set",
        "rm.reference_prompts=8",
    ]
    few += ["--set", "ppo.max_tokens=16"]
    base = shared / "data" / "stories260k"
    done = trainers("run", ROOT / "recipes" / "stories-chat.yaml", "--out", out, "--base", base, "--data", shared / "data", *few)
    assert done.returncode == 0, done.stderr
    card = json.loads((out / "report.json").read_text(encoding="utf-8"))
    data = {stage["name"]: stage["data"] for stage in card["stages"]}
    assert data["sft"]["truncated"] > 0
    assert data["rm"]["dropped"] > 100
    assert data["rl"]["dropped"] > 0
    assert all(entry["rows"] == entry["used"] + entry["bad"] + entry["dropped"] for entry in (data["sft"],))


def _recipe(tmp_path: Path, change: Callable[[str], str]) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(change((ROOT / "recipes" / "pocket-tiny.yaml").read_text(encoding="utf-8")), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("change", "overrides", "says"),
    [
        (lambda text: text.replace("vocab_size", "vocab_sise"), [], "vocab_sise is no setting: did you mean vocab_size?"),
        (lambda text: text.replace("steps: 20", "steps: many"), [], "rm.steps: input should be a valid integer"),
        (lambda text: text + "\n  - [", [], "is not valid YAML"),
        (lambda text: "just words", [], "is no recipe"),
        (lambda text: text, ["sft.steps"], "write it as key=value"),
        (lambda text: text, ["name.x=1"], "name is not a section"),
        (lambda text: text, ["rm=null"], "ppo needs a reward model: add a section rm"),
        (lambda text: text, ["ppo.clip_ration=1"], "ppo.clip_ration is no setting: did you mean clip_ratio?"),
    ],
)
def test_a_wrong_recipe_is_refused_by_file_and_field(tmp_path: Path, change: Callable[[str], str], overrides: list[str], says: str) -> None:
    with pytest.raises(UserError, match=says):
        reading.load(_recipe(tmp_path, change), overrides)


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        *((f"sft.{wrong}", wrong.partition("=")[0]) for wrong in ("clip=0", "clip=-1", "eps=0", "betas=[0.9, 1]", "weight_decay=-0.1")),
        *((f"ppo.{name}=0", name) for name in ("temperature", "critic_lr", "max_tokens", "ptx_tokens", "clip_ratio", "clip_value")),
        *((f"ppo.{name}=1.5", name) for name in ("gamma", "lam", "clip_ratio")),
        *((f"ppo.{name}=-1", name) for name in ("value_coef", "missing_eos_penalty")),
        ("model.heads=3", "make it a multiple of 6"),
        ("model.kv_heads=3", "make heads a multiple of them"),
        ("model={hidden_size: 12, heads: 4, kv_heads: 4}", "an even size for each"),
        ("model.layers=0", "layers"),
        ("vocab_size=0", "vocab_size"),
        *((f"{stage}.data=[{{path: x, start: 0.5}}, {{path: y}}]", f"{stage}: x can't join in later") for stage in ("rm", "ppo")),
        ("ppo.ptx=[{path: x, start: 0.5}]", "ppo: x can't join in later"),
        ("sft={data: [{path: x, start: 0.5}], replay: [{path: y, start: 0.1}], steps: 1, lr: 1}", "sft: all files join in later"),
    ],
)
def test_a_value_that_can_not_be_trained_with_is_refused_by_its_field(tmp_path: Path, setting: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        reading.load(_recipe(tmp_path, lambda text: text), [setting])


def test_overrides_reach_their_field(tmp_path: Path) -> None:
    loaded = reading.load(_recipe(tmp_path, lambda text: text), ["ppo.steps=3", "sft.betas=[0.5, 0.9]", "seed=4"])
    assert loaded.ppo is not None
    assert loaded.sft is not None
    assert (loaded.ppo.steps, loaded.sft.betas, loaded.seed) == (3, (0.5, 0.9), 4)


def test_every_recipe_is_valid() -> None:
    for path in (ROOT / "recipes").glob("*.yaml"):
        assert reading.load(path).name == path.stem


def test_bars_compare_a_metric_or_a_difference_with_their_limits() -> None:
    metrics = {"answer": {"sft": 0.8, "rl": 0.85}}
    assert report._judge(Bar(name="x", stage="rl", metric="answer", at_least=0.0, minus="sft"), metrics)["met"]
    assert not report._judge(Bar(name="x", stage="sft", metric="answer", at_most=0.2), metrics)["met"]
    assert not report._judge(Bar(name="x", stage="base", metric="answer", at_most=0.2), metrics)["met"], "what is missing is not met"
