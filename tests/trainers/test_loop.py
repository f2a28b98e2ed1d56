"""The loop's promises: evaluations, best weights, early stop, bad steps, and states that damage can't spoil."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from modelkit.errors import UserError
from modelkit.linear import fast_linear
from tests.trainers.conftest import World
from trainers import checkpointing
from trainers.log import Progress
from trainers.loop import Finished, StepResult, computing_in, train
from trainers.recipe import LanguageStage
from trainers.sft import LanguageModelling
from trainers.strategies import Strategy


def make(world: World, strategy: Strategy | None = None, **changes: Any) -> LanguageModelling:
    settings = LanguageStage(**{"steps": 6, "lr": 1e-2, "tokens": 150, "save_every": 2, **changes})
    return LanguageModelling("sft", world.model(), world.tokenizer, world.examples, world.examples[:6], [], settings, 0, strategy)


def run(stage: LanguageModelling, folder: Path) -> Finished:
    return train(stage, 0, folder / "sft.jsonl", folder / "state", Progress(None, ["sft"], {"sft": 1.0}))


def events(folder: Path, kind: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "sft.jsonl").read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line["event"] == kind]


def weights(stage: LanguageModelling) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in stage.modules["model"].parameters()])


def scripted(stage: LanguageModelling, values: list[float], metric: str = "eval_loss") -> list[torch.Tensor]:
    """Let the stage's evaluations give *values* in turn; the weights at each of them."""
    seen: list[torch.Tensor] = []

    def evaluate() -> dict[str, float]:
        seen.append(weights(stage).clone())
        return {metric: values[min(len(seen), len(values)) - 1]}

    stage.evaluate = evaluate  # type: ignore[method-assign]
    return seen


def test_evaluations_are_logged_before_the_first_step_every_few_steps_and_at_the_last(world: World, tmp_path: Path) -> None:
    run(make(world, steps=5, eval_every=2), tmp_path)
    assert [event["step"] for event in events(tmp_path, "eval")] == [0, 2, 4, 5]


def test_the_best_weights_are_what_a_stage_ends_with(world: World, tmp_path: Path) -> None:
    stage = make(world, eval_every=2, keep_best=True)
    seen = scripted(stage, [4.0, 3.0, 1.0, 2.0, 1.0])
    finished = run(stage, tmp_path)
    assert finished.metrics["best_step"] == 4
    assert torch.equal(weights(stage), seen[2])
    assert not torch.equal(seen[2], seen[3])


def test_a_policys_best_weights_are_those_of_the_highest_reward(world: World, tmp_path: Path) -> None:
    stage = make(world, eval_every=2, keep_best=True)
    seen = scripted(stage, [0.1, 0.9, 0.5, 0.9], "eval_reward")
    assert run(stage, tmp_path).metrics["best_step"] == 2
    assert torch.equal(weights(stage), seen[1])


def test_an_evaluation_that_is_not_finite_is_worse_than_any_other(world: World, tmp_path: Path) -> None:
    stage = make(world, eval_every=2, keep_best=True)
    seen = scripted(stage, [float("nan"), 3.0, float("-inf"), 4.0])
    assert run(stage, tmp_path).metrics["best_step"] == 2
    assert torch.equal(weights(stage), seen[1])


def test_a_stage_stops_early_after_evaluations_without_a_lower_loss(world: World, tmp_path: Path) -> None:
    stage = make(world, steps=50, eval_every=1, early_stop=2)
    scripted(stage, [4.0, 3.0, 2.0, 2.5, 2.0, 1.0])
    assert run(stage, tmp_path).steps == 4
    assert events(tmp_path, "end")[0]["step"] == 4


def test_a_resumed_stage_remembers_its_best_weights_and_its_patience(world: World, tmp_path: Path) -> None:
    whole = make(world, steps=8, eval_every=2, keep_best=True)
    run(whole, tmp_path / "whole")
    (tmp_path / "part").mkdir()
    killed = make(world, steps=8, eval_every=2, keep_best=True)
    step = killed.step

    def until_five(number: int) -> StepResult:
        if number == 5:
            raise KeyboardInterrupt
        return step(number)

    killed.step = until_five  # type: ignore[method-assign,assignment]
    with pytest.raises(KeyboardInterrupt):
        run(killed, tmp_path / "part")
    again = make(world, steps=8, eval_every=2, keep_best=True)
    run(again, tmp_path / "part")
    assert torch.equal(weights(whole), weights(again))
    assert [e["metrics"] for e in events(tmp_path / "whole", "eval")] == [e["metrics"] for e in events(tmp_path / "part", "eval")]


def test_best_weights_without_held_out_data_are_refused(world: World, tmp_path: Path) -> None:
    stage = make(world, eval_every=1, early_stop=1)
    stage.evaluate = dict  # type: ignore[method-assign]
    with pytest.raises(UserError, match="set held_out"):
        run(stage, tmp_path)


def spoiled(stage: LanguageModelling, bad: set[int]) -> None:
    """Make the gradient of some steps infinite."""
    update = stage.optimisers["model"].step
    count = iter(range(10_000))

    def step(divide_by: float = 1.0) -> dict[str, float]:
        if next(count) in bad:
            stage.optimisers["model"].parameters[0].grad = torch.full_like(stage.optimisers["model"].parameters[0], float("nan"))
        return update(divide_by)

    stage.optimisers["model"].step = step  # type: ignore[method-assign]


def test_a_step_that_is_not_finite_changes_nothing_and_names_its_rows(world: World, tmp_path: Path) -> None:
    stage = make(world)
    order = make(world)
    order.begin(0)
    rows = [list(next(order._order)) for _ in range(3)]
    spoiled(stage, {2})
    run(stage, tmp_path)
    (skipped,) = events(tmp_path, "skipped")
    assert (skipped["step"], skipped["updates"], skipped["rows"]) == (3, 1, rows[2])
    assert events(tmp_path, "step")[2]["grad_norm"] is None
    assert bool(weights(stage).isfinite().all())


def test_too_many_bad_steps_in_a_row_end_the_stage_in_one_sentence(world: World, tmp_path: Path) -> None:
    stage = make(world, steps=9, max_skipped=3)
    spoiled(stage, {0, 1, 3, 4, 5})
    with pytest.raises(UserError, match="not finite in 3 updates in a row, the last on rows .*lower the learning rate"):
        run(stage, tmp_path)
    assert [event["step"] for event in events(tmp_path, "skipped")] == [1, 2, 4, 5, 6]


@pytest.mark.parametrize("keep", [2, 3])
def test_the_last_states_are_kept(world: World, tmp_path: Path, keep: int) -> None:
    run(make(world, steps=10, keep_last=keep), tmp_path)
    assert [state.name for state in sorted((tmp_path / "state").glob("step-*"))] == [f"step-{s:06d}" for s in (2, 4, 6, 8)][-keep:]


@pytest.fixture(scope="module")
def states(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("states")
    run(make(world, steps=6), folder)
    return folder / "state"


@pytest.mark.parametrize("damage", ["truncate", "flip", "delete", "empty"])
def test_a_state_with_any_damaged_file_is_left_for_the_one_before(
    world: World, states: Path, tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names = sorted(path.relative_to(states) for path in (states / "step-000004").rglob("*") if path.is_file())
    assert {"state.json", "model.safetensors", "model.optimiser.safetensors"} == {name.name for name in names}
    drawn = random.Random(0)
    for name in names:
        folder = tmp_path / name.name
        shutil.copytree(states, folder)
        content = bytearray((folder / name).read_bytes())
        at = drawn.randrange(len(content))
        if damage == "truncate":
            (folder / name).write_bytes(content[:at])
        elif damage == "flip":
            content[at] ^= 1 << drawn.randrange(8)
            (folder / name).write_bytes(content)
        elif damage == "empty":
            (folder / name).write_bytes(b"")
        else:
            (folder / name).unlink()
        stage = make(world)
        resumed = checkpointing.resume(stage, folder)
        assert resumed is not None, (name, at)
        assert resumed[0] == 2, (name, at)
        assert "is damaged" in capsys.readouterr().out


def test_a_resumed_state_is_bitwise_the_one_that_was_saved(world: World, states: Path) -> None:
    stage, other = make(world), make(world)
    assert checkpointing.resume(stage, states) is not None
    other.begin(0)
    for step in range(4):
        with fast_linear(torch.device("cpu"), torch.float32):
            other.step(step)
    assert torch.equal(weights(stage), weights(other))
    mine, theirs = stage.optimisers["model"].state()[0], other.optimisers["model"].state()[0]
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.parametrize("name", ["model.safetensors", "state.json"])
def test_damaged_best_weights_are_never_ended_with(world: World, tmp_path: Path, name: str) -> None:
    stage = make(world, steps=4, eval_every=2, keep_best=True)
    scripted(stage, [3.0, 1.0, 2.0])
    best, load = tmp_path / "state" / "best" / name, checkpointing.load_best

    def damage(*inputs: Any) -> None:
        best.write_bytes(best.read_bytes()[:-3])
        load(*inputs)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(checkpointing, "load_best", damage)
        with pytest.raises(UserError, match="the best weights of sft are damaged .*delete"):
            run(stage, tmp_path)


def test_computing_in_bf16_keeps_fp32_weights_and_learns(world: World, tmp_path: Path) -> None:
    stage = make(world, dtype="bf16", steps=20)
    before = stage.evaluate()["eval_loss"]
    seen: list[torch.dtype] = []
    stage.modules["model"].get_submodule("model.layers.0.mlp.down_proj").register_forward_hook(lambda *a: seen.append(a[2].dtype))
    assert run(stage, tmp_path).metrics["eval_loss"] < before
    assert set(seen) == {torch.bfloat16}
    assert {p.dtype for p in stage.modules["model"].parameters()} == {torch.float32}


def test_an_update_reaches_the_passes_after_it_in_bf16_and_a_pass_before_it_costs_no_gradient(world: World) -> None:
    """Within one block, as PPO's and GRPO's updates are within one step."""
    stage, other = make(world, dtype="bf16"), make(world, dtype="bf16")
    stage.begin(0)
    other.begin(0)
    layer: Any = stage.modules["model"].get_submodule("model.layers.0.mlp.down_proj")
    inputs = torch.ones(1, layer.in_features)
    with computing_in("bf16", torch.device("cpu")):
        with torch.no_grad():
            before = layer(inputs)
        updated = stage.step(0).numbers
        with torch.no_grad():
            assert not torch.equal(layer(inputs), before)
    with computing_in("bf16", torch.device("cpu")):
        assert other.step(0).numbers == updated
