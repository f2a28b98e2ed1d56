"""The benchmarks' prompts, byte by byte, from small files in their original layouts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from evalkit.tasks import ceval, cmmlu, mmlu
from evalkit.types import ChoiceTask, Question
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

MMLU_HELM = """The following are multiple choice questions (with answers) about abstract algebra.

Question:  First dev?
A. 1
B. 2
C. 3
D. 4
Answer: B

Question: Second dev?
A. None
B. NA
C. x
D. y
Answer: D

Question: Asked?
A. p
B. q
C. r
D. s
Answer:"""

CMMLU_COT = """以下是关于农学的单项选择题，请分析并选出正确答案。

题目：第一题
A. 一
B. 二
C. 三
D. 四
答案是：C

题目：问？
A. 子
B. 丑
C. 寅
D. 卯
逐步分析并给出答案选项。"""

CEVAL_COT = """以下是中国关于注册会计师考试的单项选择题，请选出其中的正确答案。

第一题
A. 一
B. 二
C. 三
D. 四
答案：让我们一步一步思考，
因为
所以答案是C。

问？
A. 子
B. 丑
C. 寅
D. 卯
答案：让我们一步一步思考，
1."""

CHINESE_DEV = [["第一题", "一", "二", "三", "四", "C"], ["第二题", "甲", "乙", "丙", "丁", "A"]]
CHINESE_TEST = ["问？", "子", "丑", "寅", "卯", "D"]


def prompt(task: ChoiceTask) -> str:
    """The first question's whole prompt."""
    item = task.items[0]
    (ask,) = task.protocol.asks(item.subject, task.dev.get(item.subject, []), [item], task.methods[0])
    return ask.text()


def chat(task: ChoiceTask) -> list[tuple[str, str]]:
    """The first question's turns."""
    item = task.items[0]
    (ask,) = task.protocol.asks(item.subject, task.dev.get(item.subject, []), [item], task.methods[0])
    return [(message["role"], message["content"]) for message in ask.messages()]


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


def test_lm_evaluation_harness_has_one_blank_and_strips_the_question(tmp_path: Path) -> None:
    task = mmlu.load(mmlu_data(tmp_path), 2, protocol="lm-eval")
    assert prompt(task) == MMLU.replace("about  abstract", "about abstract").replace(" First dev?", "First dev?")
    assert (task.protocol.letter_lead, task.protocol.official, task.protocol.drop, task.protocol.limit) == (" ", "micro", "left", None)


def test_lm_evaluation_harness_asks_chinese_in_its_own_words(tmp_path: Path) -> None:
    ours = CMMLU.replace("题目：", "").replace("答案是：", "答案：").replace("答案：C", "答案： C").replace("答案：A", "答案： A")
    assert prompt(cmmlu.load(cmmlu_data(tmp_path / "cmmlu"), 2, protocol="lm-eval")) == ours
    ours = CEVAL.replace("考试", "").replace("答案：C", "答案： C").replace("答案：A", "答案： A")
    task = ceval.load(ceval_data(tmp_path / "ceval"), 2, protocol="lm-eval")
    assert prompt(task) == ours
    assert (task.protocol.letter_lead, task.protocol.official, task.protocol.drop) == (" ", "micro", "left")


def test_helm_says_question_draws_its_shots_and_is_marked_approximate(tmp_path: Path) -> None:
    task = mmlu.load(mmlu_data(tmp_path), 2, protocol="helm")
    assert prompt(task) == MMLU_HELM
    assert (task.methods, task.protocol.max_tokens, task.protocol.stop, task.protocol.extraction) == (("generate",), 5, ("\n",), "helm")
    assert task.protocol.approximate
    assert task.protocol.official == "macro"


def test_helm_takes_one_shot_of_each_answer_in_turn_the_commonest_first() -> None:
    def question(number: int, answer: str) -> Question:
        return Question(f"s/{number}", "s", (), str(number), (answer, "other"), "A")

    pool = [question(number, answer) for number, answer in enumerate(["rare", "often", "often", "often", "rarer"])]
    chosen = [one.options[0] for one in mmlu.balanced(pool, 5)]
    assert (chosen[0], sorted(chosen[1:3]), chosen[3:]) == ("often", ["rare", "rarer"], ["often", "often"])
    assert len(mmlu.balanced(pool, 9)) == 5


def test_chains_of_thought_as_the_authors_write_them(tmp_path: Path) -> None:
    task = cmmlu.load(cmmlu_data(tmp_path / "cmmlu"), 1, protocol="official-cot")
    assert prompt(task) == CMMLU_COT
    task = ceval.load(ceval_data(tmp_path / "ceval"), 1, protocol="official-cot")
    assert prompt(task) == CEVAL_COT
    assert (task.methods, task.protocol.allows) == (("generate",), ("generate",))


def test_cevals_chat_has_a_system_prompt_and_the_header_before_the_first_question(tmp_path: Path) -> None:
    system = "你是一个中文人工智能助手，以下是中国关于注册会计师考试的单项选择题，请选出其中的正确答案。"
    header = "以下是中国关于注册会计师考试的单项选择题，请选出其中的正确答案。\n\n"
    first, asked = "第一题\nA. 一\nB. 二\nC. 三\nD. 四\n答案：", "问？\nA. 子\nB. 丑\nC. 寅\nD. 卯\n答案："
    ceval_data(tmp_path)
    assert chat(ceval.load(tmp_path, 1)) == [("system", system), ("user", header + first), ("assistant", "C"), ("user", asked)]
    assert chat(ceval.load(tmp_path, 0)) == [("system", system), ("user", header + asked)]
    thought = "让我们一步一步思考，\n因为\n所以答案是C。"
    with_thought = [("system", system), ("user", header + first), ("assistant", thought), ("user", asked)]
    assert chat(ceval.load(tmp_path, 1, protocol="official-cot")) == with_thought


def test_in_a_chat_shots_are_turns_and_the_reply_is_the_bare_letter(tmp_path: Path) -> None:
    header = "The following are multiple choice questions (with answers) about  abstract algebra.\n\n"
    assert chat(mmlu.load(mmlu_data(tmp_path), 1)) == [
        ("user", header + " First dev?\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer:"),
        ("assistant", "B"),
        ("user", "Asked?\nA. p\nB. q\nC. r\nD. s\nAnswer:"),
    ]


def test_cevals_test_split_has_questions_and_no_answers(tmp_path: Path) -> None:
    task = ceval.load(ceval_data(tmp_path), 2, split="test")
    assert [(item.id, item.gold, item.fault) for item in task.items] == [("accountant/0", "", "")]
    assert prompt(task) == CEVAL
    with pytest.raises(UserError, match="ceval has no split 'dev': use val or test"):
        ceval.load(tmp_path, 2, split="dev")


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
