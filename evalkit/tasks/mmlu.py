"""MMLU as it is asked by its authors, by lm-evaluation-harness and by HELM: three protocols that do not agree."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

from evalkit.protocol import Protocol
from evalkit.reading import Columns
from evalkit.tasks.folders import Benchmark
from evalkit.tasks.hub import Hub
from evalkit.types import LETTERS, ChoiceTask, Question


def spaced(subject: str) -> str:
    """``high_school_physics`` → `` high school physics``: the authors put a blank before every word, the first included."""
    return "".join(f" {word}" for word in subject.split("_"))


def balanced(questions: Sequence[Question], shots: int) -> list[Question]:
    """HELM's choice of shots: by the right answer's text, the commonest first, one of each in turn, drawn at random with seed 0."""
    draw = random.Random(0)
    by_answer: dict[str, list[Question]] = {}
    for question in questions:
        by_answer.setdefault(question.options[LETTERS.index(question.gold)], []).append(question)
    answers: list[str] = []
    for size in sorted({len(own) for own in by_answer.values()}, reverse=True):
        equal = [answer for answer, own in sorted(by_answer.items()) if len(own) == size]
        draw.shuffle(equal)
        answers += equal
    chosen: list[Question] = []
    for answer in cycle(answers):
        if len(chosen) == min(shots, len(questions)):
            return chosen
        if own := by_answer[answer]:
            chosen.append(own.pop(draw.randrange(len(own))))
    return chosen


_HEADER = "The following are multiple choice questions (with answers) about {subject}.\n\n"
HENDRYCKS = Protocol("hendrycks", "micro", header=_HEADER, title=spaced, cue="\nAnswer:", letter_lead=" ")
LM_EVAL = Protocol("lm-eval", "micro", header=_HEADER, cue="\nAnswer:", letter_lead=" ", strip=True, drop="left", limit=None)
HELM = Protocol(
    "helm",
    "macro",
    header=_HEADER,
    opening="Question: ",
    cue="\nAnswer:",
    letter_lead=" ",
    choose=balanced,
    limit=None,
    methods=("generate",),
    extraction="helm",
    max_tokens=5,
    stop=("\n",),
    approximate="HELM samples its shots; they are drawn by its rule here, but its own data order and tokenizers are not at hand",
)
PROTOCOLS = {protocol.name: protocol for protocol in (HENDRYCKS, LM_EVAL, HELM)}


def load(
    data: Path | None, shots: int | None = None, methods: Sequence[str] | None = None, protocol: str = "hendrycks", split: str | None = None
) -> ChoiceTask:
    """The test questions below *data* (``dev/<subject>_dev.csv``, ``test/<subject>_test.csv``).

    :raises UserError: when the data is not there or not laid out so.
    """
    return MMLU.load(PROTOCOLS[protocol], data, shots, methods, split)


_SUBJECTS = {
    "STEM": """abstract_algebra astronomy college_biology college_chemistry college_computer_science college_mathematics college_physics
        computer_security conceptual_physics electrical_engineering elementary_mathematics high_school_biology high_school_chemistry
        high_school_computer_science high_school_mathematics high_school_physics high_school_statistics machine_learning""",
    "humanities": """formal_logic high_school_european_history high_school_us_history high_school_world_history international_law
        jurisprudence logical_fallacies moral_disputes moral_scenarios philosophy prehistory professional_law world_religions""",
    "social sciences": """econometrics high_school_geography high_school_government_and_politics high_school_macroeconomics
        high_school_microeconomics high_school_psychology human_sexuality professional_psychology public_relations security_studies
        sociology us_foreign_policy""",
    "other (business, health, misc.)": """anatomy business_ethics clinical_knowledge college_medicine global_facts human_aging management
        marketing medical_genetics miscellaneous nutrition professional_accounting professional_medicine virology""",
}
CATEGORY = {subject: category for category, subjects in _SUBJECTS.items() for subject in subjects.split()}
MMLU = Benchmark(
    "mmlu",
    split="test",
    file="{subject}_{split}.csv",
    columns=None,
    subjects=tuple(sorted(CATEGORY)),
    categories=lambda subject: (CATEGORY[subject],),
    hub=Hub("cais/mmlu", Columns("question", "choices", "answer"), tuple(sorted(CATEGORY)), {}),
)
