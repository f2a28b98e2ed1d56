"""C-Eval's submission file: one letter for each of the 12,342 test questions, whose right answers only its authors have."""

from __future__ import annotations

from pathlib import Path

from evalkit.recorded import Line, Recorded
from modelkit import atomic
from modelkit.errors import DataError, UserError

_QUESTIONS = """
    accountant=443 advanced_mathematics=173 art_studies=298 basic_medicine=175 business_administration=301
    chinese_language_and_literature=209 civil_servant=429 clinical_medicine=200 college_chemistry=224 college_economics=497
    college_physics=176 college_programming=342 computer_architecture=193 computer_network=171 discrete_mathematics=153
    education_science=270 electrical_engineer=339 environmental_impact_assessment_engineer=281 fire_engineer=282
    high_school_biology=175 high_school_chemistry=172 high_school_chinese=178 high_school_geography=178 high_school_history=182
    high_school_mathematics=166 high_school_physics=175 high_school_politics=176 ideological_and_moral_cultivation=172 law=221
    legal_professional=215 logic=204 mao_zedong_thought=219 marxism=179 metrology_engineer=219 middle_school_biology=192
    middle_school_chemistry=185 middle_school_geography=108 middle_school_history=207 middle_school_mathematics=177
    middle_school_physics=178 middle_school_politics=193 modern_chinese_history=212 operating_system=179 physician=443
    plant_protection=199 probability_and_statistics=166 professional_tour_guide=266 sports_science=180 tax_accountant=443
    teacher_qualification=399 urban_and_rural_planner=418 veterinary_medicine=210
"""
QUESTIONS: dict[str, int] = {pair.split("=")[0]: int(pair.split("=")[1]) for pair in _QUESTIONS.split()}
"""Subject → questions of the test split, numbered from 0."""

Submission = dict[str, dict[str, str]]


def submission(recorded: Recorded, method: str | None = None, fill: str | None = None) -> tuple[Submission, int]:
    """Subject → question's number → letter, whole and checked, and how many letters are *fill*.

    :param method: whose answers; by default those of the task's first method.
    :param fill: the letter of questions without an answer of their own (unscored, or none found in the reply).
    :raises UserError: when the result isn't of C-Eval's test split, or when a subject, a question or a letter is missing.
    """
    lines = {line.id: line for line in _test_lines(recorded, method)}
    _complete(recorded, lines)
    empty = [id for id, line in lines.items() if line.prediction not in set("ABCD")]
    if empty and fill is None:
        reason = lines[empty[0]].reason or "no letter was found in the reply"
        raise UserError(
            f"{len(empty):,} questions have no letter ({empty[0]}: {reason}): answer them otherwise, or --fill A gives them one."
        )
    made = {
        subject: {str(row): _letter(lines[f"{subject}/{row}"].prediction, fill) for row in range(count)}
        for subject, count in QUESTIONS.items()
    }
    return made, len(empty)


def write(made: Submission, file: Path) -> None:
    """Write the JSON file that the site takes."""
    atomic.write_json(file, made)


def _test_lines(recorded: Recorded, method: str | None) -> list[Line]:
    tasks = [name for name in recorded.result.tasks if name.partition("@")[0] == "ceval"]
    if len(tasks) != 1:
        raise UserError(f"{recorded.folder} holds {len(tasks)} C-Eval tasks ({', '.join(tasks) or 'none'}): a submission is made of one.")
    methods = recorded.result.tasks[tasks[0]].methods
    if method is not None and method not in methods:
        raise UserError(f"{tasks[0]} was not measured by {method!r}, but by {', '.join(methods)}.")
    lines = recorded.lines(tasks[0], method or next(iter(methods)))
    if any(line.gold for line in lines):
        raise UserError(
            f"{recorded.folder} answers questions whose right answers are public: measure C-Eval's test split for a submission."
        )
    return lines


def _complete(recorded: Recorded, lines: dict[str, Line]) -> None:
    """:raises DataError: unless every question of every subject is there, and no other."""
    missing = [subject for subject in QUESTIONS if f"{subject}/0" not in lines]
    if missing:
        raise DataError(f"{recorded.folder} lacks {len(missing)} of the 52 subjects: {', '.join(missing[:5])}{', …' * (len(missing) > 5)}.")
    expected = {f"{subject}/{row}" for subject, count in QUESTIONS.items() for row in range(count)}
    for ids, what in ((expected - lines.keys(), "lacks"), (lines.keys() - expected, "answers, but the test split doesn't have,")):
        if ids:
            named = ", ".join(sorted(ids)[:5])
            raise DataError(f"{recorded.folder} {what} {len(ids):,} questions: {named}{', …' * (len(ids) > 5)}.")


def _letter(prediction: str | None, fill: str | None) -> str:
    letter = prediction if prediction in set("ABCD") else fill
    assert letter is not None
    return letter
