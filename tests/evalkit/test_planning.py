"""From what was asked for to tasks: names, suites, what fits a checkpoint, subjects and limits."""

from __future__ import annotations

import collections
from pathlib import Path

import pytest

from evalkit.planning import Candidate, Plan, Wanted, narrowed, plan
from evalkit.tasks import yaml_task
from evalkit.types import ChoiceTask, RewardTask, TextTask
from modelkit.errors import UserError
from modelkit.run import Run
from tests.evalkit.tiny import write_csv, write_jsonl, write_suite


def planned(run: Run, name: str, *tasks: str, template: bool = True, **wanted) -> Plan:
    return plan(Wanted(tasks, **wanted), Candidate(run.checkpoint(name), name == "rm", template, run))


def names(made: Plan) -> list[str]:
    return [task.name for task in made.tasks]


def test_the_runs_suite_is_known_by_its_name(run: Run) -> None:
    made = planned(run, "sft", "pocket")
    assert names(made) == ["pocket.choice", "pocket.answer", "pocket.reward", "pocket.text"]
    assert made.left_out == {"pocket.pairs": "it is for reward models"}
    (choice, _, reward, _) = made.tasks
    assert isinstance(choice, ChoiceTask)
    assert isinstance(reward, RewardTask)
    assert (choice.shots, choice.methods, choice.protocol.name) == (0, ["perplexity", "letters"], "hendrycks")
    assert (reward.reward_model, reward.reference) == (run.path / "rm", run.path / "sft")


def test_a_reward_model_gets_the_pairs(run: Run) -> None:
    made = planned(run, "rm", "pocket")
    assert names(made) == ["pocket.pairs"]
    assert set(made.left_out.values()) == {"rm is a reward model"}


def test_a_checkpoint_without_a_template_is_not_asked_to_chat(run: Run) -> None:
    made = planned(run, "base", "pocket", template=False)
    assert names(made) == ["pocket.choice", "pocket.text"]
    assert made.left_out["pocket.answer"] == "base has no chat template"


def test_one_task_of_a_suite_can_be_asked_for(run: Run) -> None:
    assert names(planned(run, "sft", "pocket.text", "pocket.choice")) == ["pocket.text", "pocket.choice"]


def test_a_task_asked_for_twice_is_measured_once(run: Run) -> None:
    assert names(planned(run, "sft", "pocket.text", "pocket", "pocket")) == [
        "pocket.text",
        "pocket.choice",
        "pocket.answer",
        "pocket.reward",
    ]


def test_the_command_line_overrides_shots_and_methods(run: Run) -> None:
    (task,) = planned(run, "sft", "pocket.choice", shots=2, methods=["letters"]).tasks
    assert isinstance(task, ChoiceTask)
    assert (task.shots, list(task.methods)) == (2, ["letters"])


def test_a_reward_task_waits_for_its_checkpoints(tmp_path: Path, run: Run) -> None:
    write_suite(tmp_path / "suite")
    made = planned(run, "sft", str(tmp_path / "suite"))
    assert made.left_out["pocket.reward"] == f"{tmp_path / 'suite' / 'rm'} is not there yet"


def test_what_was_asked_for_by_name_is_not_left_out_silently(run: Run) -> None:
    with pytest.raises(UserError, match=r"pocket\.pairs can't be measured here: it is for reward models"):
        planned(run, "sft", "pocket.pairs")
    with pytest.raises(UserError, match=r"mmlu asks a language model, but .*rm is a reward model"):
        planned(run, "rm", "mmlu")


@pytest.mark.parametrize(
    ("task", "complaint"),
    [
        ("mmlu@hendryks", "mmlu has no protocol 'hendryks' (did you mean 'hendrycks'?): use mmlu@hendrycks, mmlu@lm-eval, mmlu@helm"),
        ("pocket.chioce", "has no task 'chioce' (did you mean 'choice'?): it has choice, answer, pairs, reward, text"),
        ("mlmu", "'mlmu' is no task (did you mean 'mmlu'?): `evalkit tasks` lists"),
        ("gaokao", "gaokao needs its data: give --data DIR"),
    ],
)
def test_unknown_tasks_are_named(run: Run, task: str, complaint: str) -> None:
    with pytest.raises(UserError) as caught:
        planned(run, "sft", task)
    assert complaint in str(caught.value)


def test_unknown_methods_and_subjects_are_named(run: Run) -> None:
    with pytest.raises(UserError, match=r"'leters' is no method \(did you mean 'letters'\?\): use letters, perplexity, generate"):
        planned(run, "sft", "pocket.choice", methods=["leters"])
    with pytest.raises(UserError, match=r"has no subject 'capital' \(did you mean 'capitals'\?\): it has capitals, 首都"):
        planned(run, "sft", "pocket.choice", subjects=["首都", "capital"])
    with pytest.raises(UserError, match=r"gaokao@official can't be measured by perplexity: use --method generate or letters"):
        planned(run, "sft", "gaokao", methods=["perplexity"])
    with pytest.raises(UserError, match=r"mmlu is asked on its one split"):
        planned(run, "sft", "mmlu", split="test")


def test_a_limit_takes_from_all_subjects_in_turn(run: Run) -> None:
    (task,) = planned(run, "sft", "pocket.choice", limit=5).tasks
    assert [item.id for item in task.items] == ["capitals/0", "capitals/1", "capitals/2", "首都/0", "首都/1"]
    assert [item.id for item in narrowed(task, ["首都"], 1).items] == ["首都/0"]
    assert len(narrowed(task, None, 100).items) == 5


def test_a_single_task_needs_no_suite(tmp_path: Path, run: Run) -> None:
    (tmp_path / "task.yaml").write_text("name: news\nkind: text\ndata: t.jsonl\n", encoding="utf-8")
    write_jsonl(tmp_path / "t.jsonl", [{"text": "a"}])
    (task,) = planned(run, "sft", str(tmp_path)).tasks
    assert isinstance(task, TextTask)
    assert task.name == "news.text"


def test_a_header_of_ones_own_gets_the_subject_in_words(tmp_path: Path, run: Run) -> None:
    (tmp_path / "task.yaml").write_text('kind: choice\ndata: .\nheader: "About {subject}: {x}\\n"\n', encoding="utf-8")
    write_csv(tmp_path / "test/high_school_test.csv", [["Q", "a", "b", "B"]])
    (task,) = planned(run, "sft", str(tmp_path)).tasks
    assert isinstance(task, ChoiceTask)
    assert task.protocol.headline("high_school") == "About high school: {x}\n"
    assert task.protocol.block(task.items[0]) == "Q\nA. a\nB. b\nAnswer:"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("a: [", "is not valid YAML"),
        ("- a", "should hold a name and tasks"),
        ("name: x\ntasks: {}", "tasks: "),
        ("name: x\ntasks: {a: {kind: choice}}", r"tasks\.a\.choice\.data"),
        ("name: x\ntasks: {a: {kind: essay, data: x}}", r"tasks\.a"),
        ("name: x\nkind: text\ndata: t\nshot: 3", "shot"),
        ("name: x\nkind: text\ndata: t.jsonl", r"no data file .*t\.jsonl"),
        ("name: x\nkind: choice\ndata: nowhere", "has no folder test"),
        ("name: x\nkind: choice\ndata: .\ncategories: {law: en}", "gives 'law' a category, but there is no"),
    ],
)
def test_a_bad_task_file_is_named(tmp_path: Path, run: Run, content: str, complaint: str) -> None:
    (tmp_path / "task.yaml").write_text(content, encoding="utf-8")
    if "data: ." in content:
        write_csv(tmp_path / "test/anatomy_test.csv", [["Q", "a", "b", "B"]])
    with pytest.raises(UserError, match=complaint):
        planned(run, "sft", str(tmp_path))


def test_a_name_is_part_of_a_files_name(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "mine"
    write_jsonl(folder / "t.jsonl", [{"text": "x"}])
    for named in ("name: my/own", "name: ok\ntasks: {a/b: {kind: text, data: t.jsonl}}"):
        (folder / "task.yaml").write_text(named + ("" if "tasks" in named else "\nkind: text\ndata: t.jsonl"), encoding="utf-8")
        with pytest.raises(UserError, match="String should match pattern"):
            planned(run, "sft", str(folder))
    (folder / "task.yaml").write_text("kind: text\ndata: t.jsonl", encoding="utf-8")
    monkeypatch.chdir(folder)
    assert names(planned(run, "sft", ".")) == ["mine.text"]


def test_two_tasks_of_one_name_are_not_taken_for_one(tmp_path: Path, run: Run) -> None:
    for folder, text in (("a", "one"), ("b", "two"), ("c", "one")):
        write_jsonl(tmp_path / folder / "t.jsonl", [{"text": text}])
        (tmp_path / folder / "task.yaml").write_text("name: own\nkind: text\ndata: t.jsonl", encoding="utf-8")
    a, b, c = (str(tmp_path / folder) for folder in "abc")
    with pytest.raises(UserError, match=r"two different tasks are called own\.text"):
        planned(run, "sft", a, b)
    assert names(planned(run, "sft", a, c)) == ["own.text"]


def test_a_folder_without_a_task_file_is_named(tmp_path: Path, run: Run) -> None:
    with pytest.raises(UserError, match=r"holds no task\.yaml"):
        planned(run, "sft", str(tmp_path))
    with pytest.raises(UserError, match=r"holds no task\.yaml"):
        yaml_task.read_suite(tmp_path)


def test_every_subject_is_in_one_piece_when_nothing_is_asked_for(run: Run) -> None:
    (task,) = planned(run, "sft", "pocket.choice").tasks
    assert collections.Counter(item.subject for item in task.items) == {"capitals": 6, "首都": 2}
