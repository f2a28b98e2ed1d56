"""The papers of GAOKAO-Bench (OpenLMLab/GAOKAO-Bench, Obj_Prompt.json): their instructions, and their weights in the exam."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evalkit.credit import earned
from evalkit.types import Question, Sample

_STEPS = "请你一步一步思考并将思考过程写在【解析】和<eoe>之间。你将从A，B，C，D中选出"
_ONE = (
    "请你做一道{subject}选择题\n"
    + _STEPS
    + "正确的答案，并写在【答案】和<eoa>之间。\n例如：【答案】: A <eoa>\n完整的题目回答的格式如下：\n"
    "【解析】 ... <eoe>\n【答案】 ... <eoa>\n请你严格按照上述格式作答。\n题目如下："
)
_SEVERAL = (
    "请你做一道{subject}。\n请你一步一步思考。每一题你将从A，B，C，D中选出正确的答案，并写在【答案】和<eoa>之间。\n"
    "例如：（1）【答案】 A <eoa>\n（2）【答案】 B <eoa>\n请你严格按照上述格式作答。\n"
)
_PHYSICS = (
    "请你做一道物理选择题。\n" + _STEPS + "所有符合题意的答案，并写在【答案】和<eoa>之间。\n例如：【答案】 AB <eoa>\n"
    "完整的题目回答的格式如下：\n【解析】 ... <eoe>\n【答案】... <eoa>\n请你严格按照上述格式作答。\n"
)
_USAGE = (
    "请你做一道语文选择题\n" + _STEPS + "正确的答案，并写在【答案】和<eoa>之间。\n例如：【答案】: A <eoa>\n完整的题目回答的格式如下：\n"
    "（1）【解析】 ... <eoe>\n【答案】 ... <eoa>\n（2）【解析】 ... <eoe>\n【答案】 ... <eoa>\n"
    "请你严格按照上述格式作答。如果不止一道题，请分别作答\n题目如下："
)
_SEVEN = "请回答下面的问题，将符合题意的五个选项的字母写在【答案】和<eoa>之间，例如“【答案】 A B C D E <eoa>\n请严格按照上述格式作答。\n"


@dataclass(frozen=True)
class Paper:
    """A file's subject, its instruction, and how its answers count."""

    subject: str
    instruction: str
    letters: str = "ABCD"
    multiple: bool = False


def _one(subject: str, chinese: str) -> Paper:
    return Paper(subject, _ONE.replace("{subject}", chinese))


def _several(subject: str, what: str) -> Paper:
    return Paper(subject, _SEVERAL.replace("{subject}", what))


PAPERS = {
    "2010-2013_English_MCQs": _one("English", "英语"),
    "2010-2022_Biology_MCQs": _one("Biology", "生物"),
    "2010-2022_Chemistry_MCQs": _one("Chemistry", "化学"),
    "2010-2022_Chinese_Lang_and_Usage_MCQs": Paper("Chinese", _USAGE),
    "2010-2022_Chinese_Modern_Lit": _several("Chinese", "语文阅读理解题，其中包含三个小题"),
    "2010-2022_English_Fill_in_Blanks": _several("English", "英语完形填空题,其中包含二十个小题"),
    "2010-2022_English_Reading_Comp": _several("English", "英语阅读理解题，其中包含三到五个小题"),
    "2010-2022_Geography_MCQs": _several("Geography", "地理选择题，其中包含两到三个小题"),
    "2010-2022_History_MCQs": _one("History", "历史"),
    "2010-2022_Math_II_MCQs": _one("Liberal-arts mathematics", "数学"),
    "2010-2022_Math_I_MCQs": _one("Science mathematics", "数学"),
    "2010-2022_Physics_MCQs": Paper("Physics", _PHYSICS, multiple=True),
    "2010-2022_Political_Science_MCQs": _one("Politics", "政治"),
    "2012-2022_English_Cloze_Test": Paper("English", _SEVEN, "ABCDEFG"),
}

WEIGHT = {
    "Chinese": 0.3 * 150,
    "English": 0.7 * 150,
    "Science mathematics": 0.4 * 150,
    "Liberal-arts mathematics": 0.4 * 150,
    "Physics": 0.4 * 110,
    "Chemistry": 0.5 * 100,
    "Biology": 0.3 * 90,
    "Politics": 0.5 * 100,
    "History": 0.5 * 100,
    "Geography": 0.4 * 100,
}
"""Points of the exam that a subject's objective papers decide (merge_OBJ_SUB_score.py)."""

EXAMS = {
    "science": ("Chinese", "English", "Science mathematics", "Physics", "Chemistry", "Biology"),
    "liberal arts": ("Chinese", "English", "Liberal-arts mathematics", "Politics", "History", "Geography"),
}
"""The two exams of 750 points, and their subjects."""


def objective_part(samples: Sequence[Sample]) -> dict[str, dict[str, float]]:
    """Points in the objective papers of each exam, and how many there are; without an exam one of whose papers was not asked."""
    got: dict[str, float] = {}
    possible: dict[str, float] = {}
    asked = set()
    for sample in samples:
        if sample.correct is not None and isinstance(sample.item, Question):
            subject = PAPERS[sample.item.subject].subject
            asked.add(sample.item.subject)
            got[subject] = got.get(subject, 0.0) + earned(sample)
            possible[subject] = possible.get(subject, 0.0) + sample.item.points
    found = {}
    for exam, subjects in EXAMS.items():
        if all(name in asked for name, paper in PAPERS.items() if paper.subject in subjects):
            points = sum(WEIGHT[subject] * got[subject] / possible[subject] for subject in subjects)
            found[exam] = {"points": points, "of": sum(WEIGHT[subject] for subject in subjects)}
    return found
