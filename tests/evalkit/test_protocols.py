"""The benchmarks' prompts, byte by byte, from small files in their original layouts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from evalkit.tasks import ceval, cmmlu, mmlu
from evalkit.types import ChoiceTask
from modelkit.errors import UserError
from tests.evalkit.tiny import write_csv

MMLU = """The following are multiple choice questions (with answers) about  abstract algebra.

 First dev?
A. 1
B. 2
C. 3
D. 4
Answer: B

Second dev?
A. None
B. NA
C. x
D. y
Answer: D

Asked?
A. p
B. q
C. r
D. s
Answer:"""

CMMLU = """以下是关于农学的单项选择题，请直接给出正确答案的选项。

题目：第一题
A. 一
B. 二
C. 三
D. 四
答案是：C

题目：第二题
A. 甲
B. 乙
C. 丙
D. 丁
答案是：A

题目：问？
A. 子
B. 丑
C. 寅
D. 卯
答案是："""

CEVAL = """以下是中国关于注册会计师考试的单项选择题，请选出其中的正确答案。

第一题
A. 一
B. 二
C. 三
D. 四
答案：C

第二题
A. 甲
B. 乙
C. 丙
D. 丁
答案：A

问？
A. 子
B. 丑
C. 寅
D. 卯
答案："""

CHINESE_DEV = [["第一题", "一", "二", "三", "四", "C"], ["第二题", "甲", "乙", "丙", "丁", "A"]]
CHINESE_TEST = ["问？", "子", "丑", "寅", "卯", "D"]


def prompt(task: ChoiceTask) -> str:
    """The first question's whole prompt."""
    item = task.items[0]
    shots = [task.protocol.shot(shot) for shot in task.dev[item.subject][: task.shots]]
    return task.protocol.headline(item.subject) + "".join(shots) + task.protocol.block(item)


def mmlu_data(root: Path) -> Path:
    dev = [[" First dev?", "1", "2", "3", "4", "B"], ["Second dev?", "None", "NA", "x", "y", "D"]]
    write_csv(root / "data/dev/abstract_algebra_dev.csv", dev)
    write_csv(root / "data/test/abstract_algebra_test.csv", [["Asked?", "p", "q", "r", "s", "A"]])
    return root


def cmmlu_data(root: Path) -> Path:
    header = ["", "Question", "A", "B", "C", "D", "Answer"]
    write_csv(root / "data/dev/agronomy.csv", [header, *([str(i), *row] for i, row in enumerate(CHINESE_DEV))])
    write_csv(root / "data/test/agronomy.csv", [header, ["0", *CHINESE_TEST]])
    return root


def ceval_data(root: Path) -> Path:
    header = ["id", "question", "A", "B", "C", "D", "answer"]
    write_csv(root / "dev/accountant_dev.csv", [[*header, "explanation"], *([str(i), *row, "因为"] for i, row in enumerate(CHINESE_DEV))])
    write_csv(root / "val/accountant_val.csv", [header, ["0", *CHINESE_TEST]])
    write_csv(root / "test/accountant_test.csv", [header[:-1], ["0", *CHINESE_TEST[:-1]]])
    return root


def test_mmlu_prompt_has_two_blanks_before_the_subject_and_keeps_the_questions_own(tmp_path: Path) -> None:
    task = mmlu.load(mmlu_data(tmp_path), 2, None)
    assert prompt(task) == MMLU
    assert (task.protocol.letter_lead, task.protocol.official, task.protocol.drop) == (" ", "micro", "last")


def test_cmmlu_prompt(tmp_path: Path) -> None:
    task = cmmlu.load(cmmlu_data(tmp_path), 2, None)
    assert prompt(task) == CMMLU
    assert (task.protocol.letter_lead, task.protocol.official, task.protocol.drop) == ("", "macro", "longest")


def test_ceval_prompt(tmp_path: Path) -> None:
    task = ceval.load(ceval_data(tmp_path), 2, None)
    assert prompt(task) == CEVAL
    assert (task.protocol.letter_lead, task.protocol.official, task.protocol.drop) == ("", "macro", "last")
    assert task.items[0].gold == "D"


def test_the_first_shots_are_taken_in_the_files_order(tmp_path: Path) -> None:
    assert prompt(mmlu.load(mmlu_data(tmp_path), 1, None)) == MMLU.replace(MMLU[MMLU.index("Second dev?") : MMLU.index("Asked?")], "")
    assert mmlu.load(tmp_path, 0, None).dev == {}


@pytest.mark.parametrize(
    ("load", "write", "shots"),
    [(mmlu.load, mmlu_data, 5), (cmmlu.load, cmmlu_data, 5), (ceval.load, ceval_data, 3)],
)
def test_more_shots_than_the_dev_file_has_are_refused(tmp_path: Path, load: Callable, write: Callable, shots: int) -> None:
    with pytest.raises(UserError, match="has only 2: use --shots 2"):
        load(write(tmp_path), shots, None)


@pytest.mark.parametrize(("module", "write"), [(mmlu, mmlu_data), (cmmlu, cmmlu_data), (ceval, ceval_data)])
def test_the_layout_is_found_above_and_below(tmp_path: Path, module, write: Callable) -> None:
    name = module.__name__.rpartition(".")[2]
    write(tmp_path / name)
    inside = tmp_path / name / "data"
    found = [module.load(folder, 2, None).data for folder in (tmp_path, tmp_path / name, inside) if folder.is_dir()]
    assert len(set(found)) == 1


@pytest.mark.parametrize("module", [mmlu, cmmlu, ceval])
def test_wrong_layouts_are_named_with_what_was_looked_for(tmp_path: Path, module) -> None:
    with pytest.raises(UserError, match="there is no folder"):
        module.load(tmp_path / "nowhere", 0, None)
    with pytest.raises(UserError, match=r"not laid out like .*: (test|val)/\*\.csv were looked for"):
        module.load(tmp_path, 0, None)


def test_a_missing_dev_file_is_named(tmp_path: Path) -> None:
    mmlu_data(tmp_path)
    write_csv(tmp_path / "data/test/anatomy_test.csv", [["Q", "p", "q", "r", "s", "A"]])
    with pytest.raises(UserError, match=r"no data file .*anatomy_dev\.csv"):
        mmlu.load(tmp_path, 2, None)


def test_a_subject_that_the_benchmark_does_not_have_is_named(tmp_path: Path) -> None:
    cmmlu_data(tmp_path)
    write_csv(tmp_path / "data/test/alchemy.csv", [["", "Question", "A", "B", "C", "D", "Answer"], ["0", *CHINESE_TEST]])
    with pytest.raises(UserError, match=r"alchemy\.csv is no subject of cmmlu"):
        cmmlu.load(tmp_path, 0, None)


def test_the_real_benchmarks_have_their_published_sizes(shared: Path) -> None:
    tasks = {name: module.load(shared / "data" / name, 5, None) for name, module in (("mmlu", mmlu), ("cmmlu", cmmlu), ("ceval", ceval))}
    assert {name: (len(task.items), len(task.dev)) for name, task in tasks.items()} == {
        "mmlu": (14042, 57),
        "cmmlu": (11582, 67),
        "ceval": (1346, 52),
    }
    assert all(len(shots) == 5 for task in tasks.values() for shots in task.dev.values())
    by_category: dict[str, int] = {}
    for item in tasks["mmlu"].items:
        by_category[item.categories[0]] = by_category.get(item.categories[0], 0) + 1
    assert sorted(by_category.values()) == [3018, 3077, 3242, 4705]  # anatomy is health, not STEM, for the authors
    assert len({item.subject for item in tasks["ceval"].items if "Hard" in item.categories}) == 8
    assert len({item.subject for item in tasks["cmmlu"].items if "China specific" in item.categories}) == 15
