"""MMLU as its authors ask it (hendrycks/test, evaluate.py), with the two blanks before the subject and all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evalkit.protocol import Protocol
from evalkit.tasks.folders import choice_task, find_layout, subjects_in
from evalkit.types import ChoiceTask


def spaced(subject: str) -> str:
    """``high_school_physics`` → `` high school physics``: the authors put a blank before every word, the first included."""
    return "".join(f" {word}" for word in subject.split("_"))


HENDRYCKS = Protocol(
    name="hendrycks",
    header="The following are multiple choice questions (with answers) about {subject}.\n\n",
    title=spaced,
    cue="\nAnswer:",
    letter_lead=" ",
    drop="last",
    official="micro",
)


def load(data: Path | None, shots: int | None, methods: Sequence[str] | None) -> ChoiceTask:
    """The test questions below *data* (``dev/<subject>_dev.csv``, ``test/<subject>_test.csv``), five shots by default.

    :raises UserError: when the data is not there or not laid out so.
    """
    root = find_layout(data, "mmlu", ["dev", "test"])
    return choice_task(
        "mmlu@hendrycks",
        HENDRYCKS,
        root,
        "test",
        lambda subject, split: f"{subject}_{split}.csv",
        subjects_in(root / "test", "_test.csv"),
        lambda subject: (CATEGORY[subject],) if subject in CATEGORY else (),
        5 if shots is None else shots,
        methods or ("letters",),
    )


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
