"""From the form to a recipe, and from files to stages: nothing a visitor sends is a path."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modelkit.errors import UserError
from playground.models import Models
from playground.training import datasets, job_cards, job_form
from playground.training.estimate import estimate
from playground.training.job_form import Form, draft, job_of

CHATS: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": f"What is {i} + 1?"}, {"role": "assistant", "content": str(i + 1)}]} for i in range(20)
]
PAIRS = [{"messages": CHATS[i]["messages"][:1], "chosen": str(i + 1), "rejected": "I won't say."} for i in range(20)]
QUICK = Form("pocket", "quick", stages=("base", "sft", "rm", "rl"), steps=20)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A file of conversations and one of pairs."""
    found = {}
    for name, rows in {"chats.jsonl": CHATS, "pairs.jsonl": PAIRS}.items():
        found[name] = tmp_path / name
        found[name].write_text("".join(json.dumps(row) + "\n" for row in rows))
    return found


def test_a_recipe_is_offered_by_name_and_its_stages_are_known() -> None:
    assert "pocket" in job_form.recipes()
    assert job_form.stages_of("pocket") == ["base", "sft", "rm", "rl"]


def test_a_form_changes_the_steps_and_nothing_else(models: Models) -> None:
    made = draft(QUICK, models)
    assert [section.steps for section in made.recipe.stages.values()] == [20] * 4
    assert {section.sample_every for section in made.recipe.stages.values()} == {5}
    assert (made.start, made.recipe.world is not None, made.recipe.evaluate, made.files) == (None, True, ["pocket"], {})
    assert len(made.recipe.bars) == len(draft(replace(QUICK, steps=None), models).recipe.bars) > 0


def test_a_checkpoint_to_start_from_takes_the_place_of_the_first_stage(models: Models) -> None:
    made = draft(replace(QUICK, start="pocket/sft", stages=("base", "rm", "rl")), models)
    assert list(made.recipe.stages) == ["rm", "rl"]
    assert made.start is not None
    assert made.start.name == "sft"
    assert {bar.stage for bar in made.recipe.bars} <= {"rm", "rl"}


def test_adapters_are_put_beside_all_weights_but_a_new_models(models: Models) -> None:
    stages = draft(replace(QUICK, lora=8), models).recipe.stages
    ranks = {name: section.lora.rank if section.lora else None for name, section in stages.items()}
    assert ranks == {"base": None, "sft": 8, "rm": 8, "rl": 8}
    assert {section.optimiser for name, section in stages.items() if name != "base"} == {"adamw"}
    methods = Form("pocket-methods", stages=tuple(job_form.stages_of("pocket-methods")), lora=0)
    assert not [name for name, section in draft(methods, models).recipe.stages.items() if section.lora]


def test_files_take_the_place_of_the_recipes_own_data(models: Models, files: dict[str, Path]) -> None:
    made = draft(replace(QUICK, start="pocket/base", stages=("sft", "rm", "rl"), files=files), models)
    stages: dict[str, Any] = made.recipe.stages
    data = {name: [part.path for part in section.data] for name, section in stages.items()}
    assert data == {"sft": ["chats.jsonl"], "rm": ["pairs.jsonl"], "rl": ["chats.jsonl", "pairs.jsonl"]}
    assert [part.path for part in stages["rl"].ptx] == ["chats.jsonl"]
    assert (made.recipe.world, made.recipe.evaluate, made.recipe.bars) == (None, [], [])
    job = job_of(Form("pocket", "quick", files=files), made)
    assert (job.data, job.base) == (True, made.start)


def test_rewards_that_only_the_recipes_own_data_allow_are_left_out(models: Models, files: dict[str, Path]) -> None:
    made = draft(Form("pocket-methods", start="pocket/sft", stages=("rm", "grpo"), files=files), models)
    assert made.recipe.grpo is not None
    assert [term.name for term in made.recipe.grpo.rewards] == ["reward_model"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"recipe": "../../etc/passwd"}, "not in the list"),
        ({"start": "../pocket/sft"}, "not in the list"),
        ({"start": "pocket/rm"}, "not in the list"),
        ({"stages": ()}, "no stage is chosen"),
        ({"stages": ("sft",)}, "no model to start from"),
        ({"stages": ("base", "rl")}, "needs a reward model"),
        ({"recipe": "bilingual", "stages": ("base", "sft")}, "brings no data"),
        ({"steps": 0}, "steps"),
        ({"steps": 10**9}, "steps"),
    ],
)
def test_what_can_not_be_trained_is_said_in_a_sentence(models: Models, change: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        draft(replace(QUICK, **change), models)


def test_a_stage_without_data_is_named(models: Models, files: dict[str, Path]) -> None:
    del files["pairs.jsonl"]
    with pytest.raises(UserError, match="the stage rm learns from rows of kind preference"):
        draft(replace(QUICK, start="pocket/base", stages=("sft", "rm"), files=files), models)


def test_work_is_shared_in_ways_that_are_offered(models: Models) -> None:
    made = draft(QUICK, models)
    for change in ({"strategy": "rm -rf"}, {"processes": 0}, {"processes": 10**6}):
        with pytest.raises(UserError, match="choose one of the strategies"):
            job_of(replace(QUICK, **change), made)


def test_the_operators_files_are_known_by_ids_alone(tmp_path: Path, files: dict[str, Path]) -> None:
    (tmp_path / "notes.pdf").write_text("")
    assert set(datasets.offered(tmp_path)) == set(files)
    assert datasets.chosen(tmp_path, ["chats.jsonl"], [], 10) == {"chats.jsonl": files["chats.jsonl"]}
    for name in ("../secret.jsonl", str(files["chats.jsonl"]), "notes.pdf", "./chats.jsonl"):
        with pytest.raises(UserError, match="not in the list"):
            datasets.chosen(tmp_path, [name], [], 10)
    assert datasets.offered(None) == {}


def test_uploads_are_bounded_in_size_number_and_kind(tmp_path: Path, files: dict[str, Path]) -> None:
    uploads = [str(file) for file in files.values()]
    assert set(datasets.chosen(None, [], uploads, 1 << 20)) == set(files)
    for given, most, says in (
        (uploads, 100, "more than the"),
        ([tmp_path / "bomb.jsonl.gz"], 1 << 20, "can't be read here"),
        ([files["pairs.jsonl"]] * 2, 1 << 20, "same name"),
    ):
        with pytest.raises(UserError, match=says):
            datasets.chosen(None, [], given, most)


def test_a_file_is_shown_with_what_would_be_learnt_and_nothing_in_it_is_markup(tmp_path: Path, finished_run: Path) -> None:
    file = tmp_path / "evil.jsonl"
    row = {"instruction": "Say <script>alert(1)</script>", "output": "<img src=x onerror=alert(1)>"}
    file.write_text(json.dumps(row) + "\nnot json\n")
    report = datasets.look("<b>evil</b>.jsonl", file, finished_run / "sft")
    shown = job_cards.data("en", {"<b>evil</b>.jsonl": report})
    assert "<ins>" in shown
    assert "&lt;img src=x onerror" in shown.split("<ins>")[1]
    assert not [tag for tag in ("<script", "<img", "<b>evil") if tag in shown]
    assert str(tmp_path) not in shown
    assert "1 rows" in shown
    assert "1 bad" in shown


def test_what_is_remembered_of_a_file_is_not_its_rows(files: dict[str, Path]) -> None:
    report = datasets.look("chats.jsonl", files["chats.jsonl"], None)
    assert report.loaded.rows == report.loaded.places == []
    assert report.usable[report.kind] == len(report.lengths) > 0


def test_a_file_that_can_not_be_read_is_called_by_its_name(tmp_path: Path) -> None:
    file = tmp_path / "empty.jsonl"
    file.write_text("{}\n")
    with pytest.raises(UserError) as refused:
        datasets.look("mine.jsonl", file, None)
    assert str(tmp_path) not in str(refused.value)
    assert "mine.jsonl" in str(refused.value)


def test_every_stage_has_an_estimate(models: Models) -> None:
    made = draft(replace(QUICK, start="pocket/sft", stages=("rm", "rl")), models)
    found = estimate(made.recipe, made.start)
    assert [one.stage for one in found] == ["rm", "rl"]
    assert all(one.bytes > 0 and one.seconds > 0 and one.trained > 0 and one.strategy == "single" for one in found)
    table = job_cards.plan("zh", found)
    assert "奖励模型" in table
    with pytest.raises(UserError, match="zero1 can't run with 1 processes"):
        estimate(made.recipe, made.start, "zero1")
