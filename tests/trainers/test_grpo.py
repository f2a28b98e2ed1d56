"""Group-relative optimisation: rewards by rule, groups, updates, and a policy that learns a rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from modelkit.errors import UserError
from tests.trainers.conftest import World
from trainers.grpo import GroupRelative, Judge
from trainers.pocket.judge import right_answer
from trainers.ppo import rollout
from trainers.recipe import GrpoStage
from trainers.reward import from_language_model
from trainers.rewards import BUILT_IN, code_of, find, value
from trainers.strategies.plain import Single


def low_tokens(prompt: str, reply: str, reference: str | None) -> float:
    """A rule that a random model can learn: say words with the letter e."""
    return reply.count("e") / max(1, len(reply))


def failing(prompt: str, reply: str, reference: str | None) -> float:
    raise KeyError("oops")


def make(world: World, **changes: Any) -> GroupRelative:
    defaults = {"data": [], "rewards": [{"name": f"{__name__}:low_tokens"}], "steps": 20, "lr": 5e-3, "max_tokens": 10}
    settings = GrpoStage(**{**defaults, "prompts": 4, "samples": 6, **changes})
    judge = Judge(settings, world.tokenizer, from_language_model(world.model(), world.tokenizer))
    reference = world.model() if settings.kl_coef else None
    made = GroupRelative(
        world.model(), reference, judge, world.tokenizer, world.prompts[4:40], world.prompts[:4], world.prompts[:1], settings, seed=0
    )
    made.begin(0)
    return made


@pytest.mark.parametrize(
    ("name", "prompt", "reply", "reference", "expected"),
    [
        ("exact_answer", "q", " paris.", "Paris", 1.0),
        ("exact_answer", "q", "It is Paris.", "Paris", 0.0),
        ("exact_answer", "q", "Paris", None, 0.0),
        ("contains_answer", "q", "It is paris, I think.", "Paris", 1.0),
        ("contains_answer", "q", "A comparison.", "Paris", 0.0),
        ("contains_answer", "q", "是巴黎。", "巴黎", 1.0),
        ("contains_answer", "q", "112", "12", 0.0),
        ("same_language", "What?", "是。", None, 0.0),
        ("same_language", "什么？", "是 Paris 吗。", None, 1.0),
        ("same_language", "What?", "42", None, 1.0),
        ("brief", "q", "x" * 100, None, 0.75),
        ("brief", "q", "x" * 1000, None, 0.0),
        ("well_formed", "q", "One line.\nAnother one!", None, 1.0),
        ("well_formed", "q", "Same.\nSame.", None, 0.0),
        ("well_formed", "q", "cut o", None, 0.0),
        ("well_formed", "q", "", None, 0.0),
    ],
)
def test_a_built_in_reward_judges(name: str, prompt: str, reply: str, reference: str | None, expected: float) -> None:
    assert BUILT_IN[name](prompt, reply, reference) == expected


@pytest.mark.parametrize(
    ("prompt", "reply", "reference", "expected"),
    [
        ("What is the capital of France?", "The capital of France is Paris.", "Paris", 1.0),
        ("What is the capital of France?", "Paris or Rome.", "Paris", 0.0),
        ("What is the capital of France?", "Rome.", "Paris", 0.0),
        ("What is the opposite of left?", "The opposite of left is right.", "right", 1.0),
        ("法国的首都是哪里？", "法国的首都是巴黎。", "巴黎", 1.0),
        ("What is the capital of France?", "Paris.", None, 0.0),
    ],
)
def test_the_pocket_rule_wants_the_right_value_and_no_other(prompt: str, reply: str, reference: str | None, expected: float) -> None:
    assert right_answer(prompt, reply, reference) == expected


def test_a_reward_is_found_by_name_or_says_why_not() -> None:
    assert find("trainers.pocket.judge:right_answer") is right_answer
    for name, reason in (
        ("excat_answer", "there is no reward called"),
        ("no.such.module:f", "can't be imported"),
        ("no_such_file.py:f", "can't be imported \\(FileNotFoundError"),
        ("math:no_such", "has no function"),
    ):
        with pytest.raises(UserError, match=reason):
            find(name)
    with pytest.raises(UserError, match="KeyError"):
        value("failing", failing, "q", "a", None)
    with pytest.raises(UserError, match="finite"):
        value("nan", lambda *_: float("nan"), "q", "a", None)


def test_a_reward_is_a_function_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "my_rewards.py"
    file.write_text("def polite(prompt, reply, reference):\n    return float('please' in reply)\n", encoding="utf-8")
    assert value("polite", find(f"{file}:polite"), "q", "Yes, please.", None) == 1.0
    before = code_of([f"{file}:polite", "brief", "math:sqrt"])
    assert list(before) == [str(file)]
    file.write_text("def polite(prompt, reply, reference)\n", encoding="utf-8")
    assert code_of([f"{file}:polite"]) != before
    with pytest.raises(UserError, match="SyntaxError"):
        find(f"{file}:polite")


def test_samples_of_one_prompt_lie_together_and_differ(world: World) -> None:
    made = make(world)
    replies = made._sample(world.prompts[:3], 4, 1.0, [1, 2, 3])
    for i in range(3):
        prompt = world.prompts[i].ids
        group = replies.sequences[i * 4 : i * 4 + 4]
        assert all(sequence[: len(prompt)] == prompt for sequence in group)
        assert len({tuple(sequence) for sequence in group}) > 1


def test_terms_are_weighted_and_a_reward_model_can_be_one(world: World) -> None:
    settings = GrpoStage(
        data=[],
        steps=1,
        lr=1.0,
        rewards=[{"name": "brief", "weight": 2.0}, {"name": "reward_model", "weight": 0.5}],
    )
    with pytest.raises(UserError, match="needs a reward model"):
        Judge(settings, world.tokenizer)
    model = from_language_model(world.model(), world.tokenizer).eval()
    judge = Judge(settings, world.tokenizer, model)
    replies = make(world)._sample(world.prompts[:2], 2, 1.0, [1, 2])
    values = judge(world.prompts[:2], replies, Single())
    torch.testing.assert_close(values["reward_model"], rollout.rewards_of(model, replies, 4096))
    torch.testing.assert_close(judge.total(values), 2 * values["brief"] + 0.5 * values["reward_model"])


def test_the_first_update_has_ratio_one_and_clips_nothing(world: World) -> None:
    for epochs in (1, 2):
        stage = make(world, epochs=epochs, lr=1e-9)
        numbers = stage.step(0).numbers
        assert numbers["ratio"] == pytest.approx(1.0, abs=1e-5)
        assert numbers["clip_fraction"] == 0


def test_skipping_the_second_pass_gives_the_same_update(world: World) -> None:
    """With one update the old log-probabilities are the new ones: taking them from the same pass changes no weight."""
    weights = []
    for micro_tokens in (4096, 1):
        stage = make(world, micro_tokens=micro_tokens)
        stage.step(0)
        weights.append(torch.cat([p.detach().flatten() for p in stage.modules["model"].parameters()]))
    torch.testing.assert_close(weights[0], weights[1], atol=2e-4, rtol=0)


@pytest.mark.parametrize("loss", ["grpo", "dapo", "dr_grpo"])
def test_the_policy_learns_the_rule(world: World, loss: str) -> None:
    stage = make(world, loss=loss, lr=1e-2, prompts=6, samples=8, kl_coef=0.001)
    before = stage.evaluate()["eval_reward"]
    found = [stage.step(step).numbers for step in range(14)]
    assert sum(n["reward"] for n in found[-3:]) > 1.3 * sum(n["reward"] for n in found[:3])
    assert found[0]["kl_k3_per_token"] == pytest.approx(0, abs=1e-6)
    assert found[-1]["kl_k3_per_token"] > 0
    assert stage.evaluate()["eval_reward"] >= before


def test_groups_of_equal_rewards_teach_nothing_and_are_counted(world: World) -> None:
    stage = make(world, rewards=[{"name": "exact_answer"}])
    before = [p.detach().clone() for p in stage.modules["model"].parameters()]
    numbers = stage.step(0).numbers
    assert numbers["equal_groups"] == 1.0
    assert all(torch.equal(a, b) for a, b in zip(before, stage.modules["model"].parameters(), strict=True))
