"""GAOKAO-Bench's objective papers (OpenLMLab/GAOKAO-Bench): 14 files, some of whose prompts ask several questions at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evalkit.protocol import Protocol
from evalkit.reading import Entry, read_json, sha256_of_files
from evalkit.tasks.folders import below, near
from evalkit.types import ChoiceTask, Question
from evalkit.validation import Finding, checked
from modelkit.errors import DataError, UserError

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


@dataclass(frozen=True)
class Exam(Protocol):
    """Instruction and question; in a chat the instruction is the system's. For ``letters`` the answer's beginning is added."""

    def block(self, question: Question, method: str = "generate") -> str:
        """The whole plain prompt: there is no header apart from it."""
        return PAPERS[question.subject].instruction + self.turns(question, method)[0]

    def turns(self, question: Question, method: str) -> tuple[str, str]:
        """The question alone."""
        number = f"（{question.part + 1}）" if question.parts > 1 else ""
        return question.text.strip() + "\n" + (f"{number}【答案】" if method == "letters" else ""), ""


OFFICIAL = Exam(
    "official",
    "points",
    letter_lead=" ",
    system="{subject}",
    title=lambda subject: PAPERS[subject].instruction,
    shots=0,
    limit=None,
    methods=("generate",),
    allows=("generate", "letters"),
    extraction="gaokao",
    max_tokens=1024,
    approximate="the authors sample at temperature 0.3; replies are greedy here",
)
PROTOCOLS = {OFFICIAL.name: OFFICIAL}


def load(
    data: Path | None, shots: int | None = None, methods: Sequence[str] | None = None, protocol: str = "official", split: str | None = None
) -> ChoiceTask:
    """The papers below *data* (``Data/Objective_Questions/*.json``); one question for each answer of a row.

    :raises UserError: when the data is not there or damaged, or shots are asked for.
    """
    if shots:
        raise UserError("gaokao@official has no shots: leave --shots out.")
    if data is None:
        raise UserError("gaokao needs its data: give --data DIR, the folder that holds Data/Objective_Questions/*.json.")
    folder = "Objective_Questions"
    root = below(data, "gaokao-bench", lambda place: any(any((place / part).glob("*.json")) for part in (folder, f"Data/{folder}")))
    if root is None:
        raise DataError(f"{data} is not laid out like gaokao: Data/{folder}/*.json were looked for in it and in its gaokao-bench/.")
    files = sorted((root / folder if (root / folder).is_dir() else root / "Data" / folder).glob("*.json"))
    items: list[Question] = []
    findings: list[Finding] = []
    for file in files:
        if file.stem not in PAPERS:
            raise DataError(f"{file} is no paper of gaokao{near(file.stem, tuple(PAPERS))}: remove the file, or check --data.")
        found, spoken = _questions(file, PAPERS[file.stem])
        items += found
        findings += spoken
    return ChoiceTask(
        "gaokao@official", sha256_of_files(files, root), items, OFFICIAL, {}, 0, methods or OFFICIAL.methods, findings, tuple(PAPERS)
    )


def _questions(file: Path, paper: Paper) -> tuple[list[Question], list[Finding]]:
    """:raises DataError: for a row without question, answers or points."""
    value = read_json(file)
    rows: Any = value.get("example") if isinstance(value, dict) else None
    if not rows or not isinstance(rows, list):
        raise DataError(f"{file} should hold a list of questions under 'example'.")
    entries, points = [], []
    for row, record in enumerate(rows):
        answers = record.get("answer", record.get("standard_answer")) if isinstance(record, dict) else None
        if not isinstance(answers, list) or not answers or not isinstance(record.get("question"), str) or "score" not in record:
            raise DataError(f"{file}: question {row} should have a question, a list of answers (answer or standard_answer) and a score.")
        for part, gold in enumerate(answers):
            entries.append(Entry(file, row, row + 1, record["question"], tuple(paper.letters), gold, part=part, parts=len(answers)))
            points.append(float(record["score"]))
    found, findings = checked(entries, file.stem, (paper.subject,), "multiple" if paper.multiple else "single")
    partial = 0.5 if paper.multiple else 0.0
    return [replace(question, points=worth, partial=partial) for question, worth in zip(found, points, strict=True)], findings
