"""AGIEval and GAOKAO-Bench: prompts typed from the authors' scripts, kinds of question, points, and what is refused."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from evalkit.aggregate import share_right
from evalkit.credit import chance, credit, majorities, majority
from evalkit.encoding import Encoder
from evalkit.prompts import asks
from evalkit.tasks import agieval, gaokao
from evalkit.types import ChoiceTask, Question, Sample
from modelkit.errors import UserError
from tests.evalkit.tiny import tiny_tokenizer, write_jsonl

LSAT_SHOTS = """Here are the answers for the problems in the exam.
Problem 1.   Pass one. Ask one?
Choose from the following options:    (A)a (B)b (C)c (D)d (E)e
The answer is therefore B
<END>
Problem 2.    Ask two?
Choose from the following options:    (A)f (B)g (C)h (D)i (E)j
The answer is therefore E
<END>
"""
LSAT = "Problem 3.   Long passage. Which?\nChoose from the following options:    (A)v (B)w (C)x (D)y (E)z\n"
JEC = """以下是考试中各个问题的答案。
问题 1.    法条？
从以下选项中选择:    (A)甲 (B)乙 (C)丙 (D)丁
答案是 ['A', 'D']
<END>
问题 2.    哪些？
从以下选项中选择:    (A)一 (B)二 (C)三 (D)四
"""
LSAT_COT = """Here are the answers for the problems in the exam.
Problem 1.   Pass one. Ask one?
Choose from the following options:    (A)a (B)b (C)c (D)d (E)e
Explanation for Problem 1:   First this.
Then that.
The answer is therefore B
<END>
Problem 2.   Long passage. Which?
Choose from the following options:    (A)v (B)w (C)x (D)y (E)z
"""


def agieval_data(root: Path) -> Path:
    """Four small tasks and their shots, in the original layout."""
    rows: dict[str, dict] = {
        "lsat-ar": {"passage": "Long passage.", "question": "Which?", "options": ["(A)v", "(B)w", "(C)x", "(D)y", "(E)z"], "label": "C"},
        "jec-qa-ca": {"passage": None, "question": "哪些？", "options": ["(A)一", "(B)二", "(C)三", "(D)四"], "label": ["A", "C"]},
        "gaokao-mathcloze": {"passage": None, "question": "$1+1=$", "options": None, "label": None, "answer": "2"},
        "math": {"passage": None, "question": "What is $x$?", "options": None, "label": None, "answer": r"\frac{1}{2}"},
    }
    for task, row in rows.items():
        write_jsonl(root / "data/v1" / f"{task}.jsonl", [row])
    shots: dict[str, list[dict]] = {
        "lsat-ar": [
            {"passage": "Pass one.", "question": "Ask one?", "options": ["(A)a", "(B)b", "(C)c", "(D)d", "(E)e"], "label": "B"},
            {"passage": None, "question": "Ask two?", "options": ["(A)f", "(B)g", "(C)h", "(D)i", "(E)j"], "label": "E"},
        ],
        "jec-qa-ca": [{"passage": None, "question": "法条？", "options": ["(A)甲", "(B)乙", "(C)丙", "(D)丁"], "label": ["A", "D"]}],
        "gaokao-mathcloze": [{"passage": None, "question": "$2+2=$", "options": None, "label": None, "answer": "4"}],
        "math": [{"passage": None, "question": "What is $y$?", "options": None, "label": None, "answer": "7"}],
    }
    table = [["", *shots]]
    for number in range(2):
        chosen = {task: own[number] if number < len(own) else None for task, own in shots.items()}
        table.append([f"sample {number + 1}", *(repr(shot) if shot else "" for shot in chosen.values())])
        table.append([f"explanation {number + 1}", *("First this.\n\nThen that." if shot else "" for shot in chosen.values())])
    with (root / "data/few_shot_prompts.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(table)
    return root


def prompt(task: ChoiceTask, subject: str, method: str = "generate") -> str:
    """The prompt of a subject's first question."""
    item = next(item for item in task.items if item.subject == subject)
    (ask,) = asks(task, [item], method, Encoder(tiny_tokenizer()))
    return ask.text()


def test_agieval_without_shots_begins_the_answer(tmp_path: Path) -> None:
    task = agieval.load(agieval_data(tmp_path))
    assert prompt(task, "lsat-ar") == (
        "Long passage.Q: Which? Answer Choices: (A)v (B)w (C)x (D)y (E)z\nA: Among A through E, the answer is"
    )
    assert prompt(task, "jec-qa-ca") == "问题：哪些？ 选项：(A)一 (B)二 (C)三 (D)四\n答案：从A到D, 我们应选择"
    assert prompt(task, "gaokao-mathcloze") == "问题：$1+1=$\n答案："
    assert prompt(task, "math") == "Q: What is $x$?\nA: The answer is"
    assert [task.protocol.lead(item) for item in task.items] == ["", "", " ", " "]
    assert (task.shots, task.protocol.official, task.methods) == (0, "macro", ("generate",))


def test_agieval_with_shots_numbers_its_problems_and_lists_stay_lists(tmp_path: Path) -> None:
    task = agieval.load(agieval_data(tmp_path), 5)
    assert prompt(task, "lsat-ar") == LSAT_SHOTS + LSAT
    assert prompt(task, "jec-qa-ca") == JEC
    assert prompt(task, "math").endswith("Problem 1.   What is $y$?\nThe answer is therefore 7\n<END>\nProblem 2.   What is $x$?\n")
    assert prompt(task, "gaokao-mathcloze").endswith("问题 1.   $2+2=$\n答案是 4\n<END>\n问题 2.   $1+1=$\n")
    assert prompt(task, "lsat-ar", "letters") == LSAT_SHOTS + LSAT + "The answer is therefore"
    assert prompt(task, "jec-qa-ca", "letters") == JEC + "答案是"
    assert (task.protocol.extraction, task.protocol.stop, bool(task.protocol.approximate)) == ("agieval-few-shot", ("<END>",), True)


def test_agieval_takes_no_further_shots_once_they_have_too_many_tokens(tmp_path: Path) -> None:
    task = agieval.load(agieval_data(tmp_path), 5)
    encoder = Encoder(tiny_tokenizer())
    (two,) = encoder.lengths([LSAT_SHOTS])
    lsat = [item for item in task.items if item.subject == "lsat-ar"]
    for budget, shots in ((two, 1), (two + 1, 2)):
        (ask,) = asks(replace(task, protocol=replace(task.protocol, shots_limit=budget)), lsat, "generate", encoder)
        assert len(ask.shots) == shots
        assert f"Problem {shots + 1}.   Long passage." in ask.text()


def test_agievals_chain_of_thought_explains_its_shots(tmp_path: Path) -> None:
    task = agieval.load(agieval_data(tmp_path), 1, protocol="official-cot")
    assert prompt(task, "lsat-ar") == LSAT_COT
    assert (task.protocol.answer_tokens, task.protocol.extraction) == (0, "agieval-few-shot-cot")


def test_agievals_chain_of_thought_without_shots_has_two_steps(tmp_path: Path) -> None:
    task = agieval.load(agieval_data(tmp_path), protocol="official-cot")
    assert prompt(task, "lsat-ar") == "Long passage.Q: Which? Answer Choices: (A)v (B)w (C)x (D)y (E)z\nLet's think step by step."
    assert prompt(task, "jec-qa-ca") == "问题：哪些？ 选项：(A)一 (B)二 (C)三 (D)四\n从A到D, 我们应选择什么？让我们逐步思考："
    assert prompt(task, "math") == "Q: What is $x$?\nA: Let's think step by step."
    assert prompt(task, "gaokao-mathcloze") == "问题：$1+1=$\n答案：让我们逐步思考："
    assert {item.subject: task.protocol.conclusion(item) for item in task.items} == {
        "lsat-ar": "Therefore, among A through E, the answer is",
        "jec-qa-ca": "因此，从A到D, 我们应选择",
        "math": "Therefore, the answer is",
        "gaokao-mathcloze": "因此，答案是",
    }
    assert (task.shots, task.protocol.extraction, task.protocol.approximate) == (0, "agieval-zero-shot", "")


def test_agievals_chat_has_turns_without_the_header(tmp_path: Path) -> None:
    task = agieval.load(agieval_data(tmp_path), 1)
    (ask,) = asks(task, [item for item in task.items if item.subject == "lsat-ar"], "generate", Encoder(tiny_tokenizer()))
    assert [message["content"] for message in ask.messages()] == [
        "You are a helpful AI assistant.",
        "Problem 1.   Pass one. Ask one?\nChoose from the following options:    (A)a (B)b (C)c (D)d (E)e\n",
        "The answer is therefore B",
        LSAT.replace("3", "2", 1),
    ]


def gaokao_data(root: Path, key: str = "answer") -> Path:
    """Four papers in the original layout."""
    papers = {
        "2010-2022_Math_I_MCQs": (["B"], 5, "1. 求值\nA. 1 B. 2\n"),
        "2010-2022_Physics_MCQs": (["ABD"], 6, "  选择  "),
        "2012-2022_English_Cloze_Test": (["C", "F", "A", "E", "D"], 2, "71 ... 75"),
        "2010-2022_Geography_MCQs": (["B", "C"], 4, "据此完成"),
    }
    for paper, (answers, score, question) in papers.items():
        file = root / "Data/Objective_Questions" / f"{paper}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        row = {"year": "2010", "question": question, key: answers, "score": score, "index": 0}
        file.write_text(json.dumps({"keywords": paper, "example": [row]}, ensure_ascii=False), encoding="utf-8")
    return root


MATHS = """请你做一道数学选择题
请你一步一步思考并将思考过程写在【解析】和<eoe>之间。你将从A，B，C，D中选出正确的答案，并写在【答案】和<eoa>之间。
例如：【答案】: A <eoa>
完整的题目回答的格式如下：
【解析】 ... <eoe>
【答案】 ... <eoa>
请你严格按照上述格式作答。
题目如下："""


def test_gaokaos_prompt_is_instruction_and_question(tmp_path: Path) -> None:
    task = gaokao.load(gaokao_data(tmp_path))
    assert prompt(task, "2010-2022_Math_I_MCQs") == MATHS + "1. 求值\nA. 1 B. 2\n"
    assert prompt(task, "2010-2022_Physics_MCQs").endswith("【答案】... <eoa>\n请你严格按照上述格式作答。\n选择\n")
    (ask,) = asks(task, [task.items[-1]], "generate", Encoder(tiny_tokenizer()))
    turns = [(message["role"], message["content"]) for message in ask.messages()]
    assert [role for role, _ in turns] == ["system", "user"]
    assert "".join(content for _, content in turns) == ask.text()


@pytest.mark.parametrize("key", ["answer", "standard_answer"])
def test_gaokaos_rows_become_one_question_per_answer(tmp_path: Path, key: str) -> None:
    task = gaokao.load(gaokao_data(tmp_path, key))
    told = {item.id: (item.gold, item.kind, len(item.options), item.points, item.partial, item.parts) for item in task.items}
    assert told == {
        "2010-2022_Geography_MCQs/0.0": ("B", "single", 4, 4.0, 0.0, 2),
        "2010-2022_Geography_MCQs/0.1": ("C", "single", 4, 4.0, 0.0, 2),
        "2010-2022_Math_I_MCQs/0": ("B", "single", 4, 5.0, 0.0, 1),
        "2010-2022_Physics_MCQs/0": ("ABD", "multiple", 4, 6.0, 0.5, 1),
        **{f"2012-2022_English_Cloze_Test/0.{i}": (gold, "single", 7, 2.0, 0.0, 5) for i, gold in enumerate("CFAED")},
    }
    assert (task.protocol.official, task.protocol.extraction, task.findings) == ("points", "gaokao", [])


def test_gaokaos_letters_are_asked_for_part_by_part(tmp_path: Path) -> None:
    task = gaokao.load(gaokao_data(tmp_path))
    ends = [ask.text()[-8:] for ask in asks(task, task.items[:3], "letters", Encoder(tiny_tokenizer()))]
    assert [end.rsplit("\n", 1)[1] for end in ends] == ["（1）【答案】", "（2）【答案】", "【答案】"]


@pytest.mark.parametrize(("answer", "share"), [("ABD", 1.0), ("AB", 0.5), ("D", 0.5), ("ABC", 0.0), ("ABCD", 0.0), ("", 0.0), (None, 0.0)])
def test_physics_gives_half_for_some_right_letters_and_none_for_a_wrong_one(answer: str | None, share: float) -> None:
    question = Question("p/0", "p", (), "?", tuple("ABCD"), "ABD", "multiple", points=6, partial=0.5)
    assert credit(question, answer) == share


def test_the_official_number_is_points_earned_over_points_possible(tmp_path: Path) -> None:
    task = gaokao.load(gaokao_data(tmp_path))
    said = {"2010-2022_Geography_MCQs/0.0": "B", "2010-2022_Math_I_MCQs/0": "A", "2010-2022_Physics_MCQs/0": "AD"}
    samples = [
        Sample(item, "generate", gold=item.gold, prediction=said.get(item.id), correct=said.get(item.id) == item.gold)
        for item in task.items
    ]
    score = share_right(samples, "accuracy", "points")
    assert score.value == pytest.approx((4 + 0 + 3 + 0) / (4 + 4 + 5 + 6 + 10))
    assert score.official == "points"
    assert score.subjects["2010-2022_Physics_MCQs"].accuracy == 0.5
    assert score.categories["Geography"].accuracy == 0.5
    assert score.micro == pytest.approx(1 / 9)


def test_always_answering_one_letter_and_guessing_are_worth_something(shared: Path) -> None:
    task = gaokao.load(shared / "data")
    assert len(task.items) == 2944
    physics = [item for item in task.items if item.subject == "2010-2022_Physics_MCQs"]
    assert majority(physics, "points") == pytest.approx(0.390625)
    assert len(physics) == 64
    exams = agieval.load(shared / "data").items
    sat = [item for item in exams if item.subject == "sat-math"]
    assert majority(sat, "micro") == pytest.approx(0.268, abs=5e-4)
    assert chance(sat, "macro") == 0.25
    cloze = [item for item in exams if item.kind == "cloze"]
    assert chance(cloze, "macro") == 0.0


def test_guessing_is_averaged_as_the_score_is() -> None:
    two = Question("a/0", "a", (), "?", ("x", "y"), "A", points=3.0)
    five = [Question(f"b/{i}", "b", (), "?", tuple("vwxyz"), "C") for i in range(3)]
    assert chance([two, *five], "micro") == pytest.approx((1 / 2 + 3 / 5) / 4)
    assert chance([two, *five], "macro") == pytest.approx((1 / 2 + 1 / 5) / 2)
    assert chance([two, *five], "points") == pytest.approx((3 / 2 + 3 / 5) / 6)
    assert chance([], "macro") is None


def test_data_is_found_in_its_folder_or_below_one_that_holds_all_by_name(shared: Path) -> None:
    for load, name in ((agieval.load, "agieval"), (gaokao.load, "gaokao-bench")):
        assert load(shared / "data").data == load(shared / "data" / name).data


@pytest.mark.parametrize("load", [agieval.load, gaokao.load])
def test_wrong_layouts_are_named(tmp_path: Path, load) -> None:
    with pytest.raises(UserError, match="needs its data: give --data DIR"):
        load(None)
    with pytest.raises(UserError, match="is not laid out like"):
        load(tmp_path)
    with pytest.raises(UserError, match="there is no folder"):
        load(tmp_path / "nowhere")


def test_a_paper_or_a_task_that_is_none_of_the_benchmark_is_named(tmp_path: Path) -> None:
    agieval_data(tmp_path / "agieval")
    write_jsonl(tmp_path / "agieval/data/v1/lsat-arr.jsonl", [{"question": "q", "options": ["a", "b"], "label": "A"}])
    with pytest.raises(UserError, match=r"is no task of agieval \(did you mean 'lsat-ar'\?\)"):
        agieval.load(tmp_path)
    gaokao_data(tmp_path)
    (tmp_path / "Data/Objective_Questions/Art.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match="is no paper of gaokao"):
        gaokao.load(tmp_path)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "is not valid JSON"),
        ("[]", "should hold a list of questions under 'example'"),
        ('{"example": [{"question": "q", "answer": "A", "score": 1}]}', "question 0 should have a question, a list of answers"),
        ('{"example": [{"question": "q", "answer": ["A"]}]}', "question 0 should have"),
        ('{"example": [{"question": "q", "answer": ["E"], "score": 1}]}', "names 'E' as the right option"),
    ],
)
def test_a_damaged_paper_is_named(tmp_path: Path, content: str, complaint: str) -> None:
    gaokao_data(tmp_path)
    (tmp_path / "Data/Objective_Questions/2010-2022_Math_I_MCQs.json").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=complaint):
        gaokao.load(tmp_path)


def test_the_objective_part_of_the_exam_needs_all_of_its_papers(shared: Path) -> None:
    task = gaokao.load(shared / "data")
    right = [Sample(item, "generate", gold=item.gold, prediction=item.gold, correct=True) for item in task.items]
    exam = task.protocol.further(right)["exam"]
    assert exam == {"science": {"points": pytest.approx(331), "of": 331}, "liberal arts": {"points": pytest.approx(350), "of": 350}}
    without = [sample for sample in right if sample.item.subject != "2010-2022_Biology_MCQs"]
    assert set(task.protocol.further(without)["exam"]) == {"liberal arts"}


def test_always_the_same_letter_scores_well_in_the_real_physics_papers(shared: Path) -> None:
    task = gaokao.load(shared / "data")
    assert majorities(task.items, "points")["2010-2022_Physics_MCQs"] == pytest.approx(0.391, abs=5e-4)
