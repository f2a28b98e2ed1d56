"""GAOKAO-Bench's objective papers (OpenLMLab/GAOKAO-Bench): 14 files, some of whose prompts ask several questions at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evalkit.protocol import Protocol
from evalkit.reading import Entry, read_json, sha256_of_files
from evalkit.tasks.folders import below, near
from evalkit.tasks.gaokao_papers import PAPERS, Paper, objective_part
from evalkit.types import ChoiceTask, Question, Sample
from evalkit.validation import Finding, checked
from modelkit.errors import DataError, UserError


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

    def further(self, samples: Sequence[Sample]) -> dict[str, Any]:
        """The objective part of the exam's points."""
        return {"exam": objective_part(samples)}


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
