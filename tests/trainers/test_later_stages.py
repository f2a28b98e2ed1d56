"""Recipes that begin after SFT: with a reward model trained further, or with preferences at once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from modelkit import checkpoint
from modelkit.checkpoint import StageInfo, read_stage
from modelkit.reward import RewardReference
from modelkit.run import Run
from tests.trainers.conftest import World
from trainers.cli import app
from trainers.plan.requests import of_recipe
from trainers.reading import load

FEW = "data: [{path: pairs.jsonl}], steps: 2, tokens: 200, lr: 1.0e-3"


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments), "--threads", "1"])


def run(recipe: str, place: Path, base: Path, out: str) -> Run:
    file = place / f"{out}.yaml"
    file.write_text(f"name: {out}\n{recipe}\n")
    done = call("run", file, "--base", base, "--data", place / "data", "--out", place / out)
    assert done.exit_code == 0, done.output
    return Run.open(place / out)


def test_a_reward_model_is_trained_further_and_gets_a_new_scale_on_its_language_models_replies(place: Path) -> None:
    first = run(f"rm: {{{FEW}, reference_prompts: 4}}", place, place / "base", "first")
    second = run(f"rm: {{{FEW}, reference_prompts: 4, held_out: 0}}", place, first.checkpoint("rm"), "second")
    stage = read_stage(second.checkpoint("rm"))
    assert stage is not None
    assert stage.parent == "../../first/rm"
    scales = [RewardReference.read(one.checkpoint("rm")) for one in (first, second)]
    assert scales[0] is not None
    assert scales[1] is not None
    assert scales[0].rewards != scales[1].rewards
    assert [stage.name for stage in second.ready()] == ["rm"]


def test_preferences_are_learnt_from_a_checkpoint_at_once(place: Path) -> None:
    made = run(f"dpo: {{{FEW}}}", place, place / "base", "preferred")
    stage = read_stage(made.checkpoint("dpo"))
    assert stage is not None
    assert stage.parent == "../../base"


def test_a_finished_stage_whose_data_changed_since_is_not_taken_for_done(place: Path, tmp_path: Path) -> None:
    data = shutil.copytree(place / "data", tmp_path / "data")
    (tmp_path / "recipe.yaml").write_text(f"name: again\ndpo: {{{FEW}}}\n")
    again: list[str | Path] = ["run", tmp_path / "recipe.yaml", "--base", place / "base", "--data", data, "--out", tmp_path / "out"]
    assert call(*again).exit_code == 0
    assert call(*again).exit_code == 0
    rows = (data / "pairs.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (data / "pairs.jsonl").write_text("".join(rows[1:]), encoding="utf-8")
    refused = call(*again)
    assert refused.exit_code == 2
    assert "pairs.jsonl has changed since" in " ".join(refused.output.split())


def test_a_run_goes_on_wherever_its_data_is_named_from_but_not_from_another_base(
    place: Path, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = shutil.copytree(place / "base", tmp_path / "base")
    (tmp_path / "recipe.yaml").write_text(f"name: again\ndpo: {{{FEW}}}\n")
    monkeypatch.chdir(place)
    for data in (place / "data", "data"):
        done = call("run", tmp_path / "recipe.yaml", "--base", base, "--data", data, "--out", tmp_path / "out")
        assert done.exit_code == 0, done.output
    model = world.model()
    torch.nn.init.zeros_(next(model.parameters()))
    shutil.rmtree(base)
    checkpoint.save(model, world.tokenizer, base, StageInfo(stage="base"))
    refused = call("run", tmp_path / "recipe.yaml", "--base", base, "--data", "data", "--out", tmp_path / "out")
    assert refused.exit_code == 2
    assert "holds a run of another recipe, base, seed or data" in " ".join(refused.output.split())


def test_a_recipe_without_any_stage_is_refused(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("name: nothing\n")
    done = call("run", tmp_path / "recipe.yaml", "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert "there is nothing to train" in done.output


@pytest.mark.parametrize("model", [True, False])
def test_a_plan_asks_for_every_stage_of_a_recipe_that_is_trained(place: Path, model: bool) -> None:
    requests = of_recipe(load(Path("recipes/pocket-methods.yaml")), place / "base" if model else None, length=64)
    assert list(requests) == [*([] if model else ["base"]), "sft", "rm", "rl", "dpo", "kto", "grpo"]
    assert requests["rl"].stage == "ppo"
    assert {request.length for request in requests.values()} == {64 if model else 512}
