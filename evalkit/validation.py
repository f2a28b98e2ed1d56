"""Is a question fit to be asked? General rules that every row of every benchmark passes through when it is read.

What a rule finds is either *kept* – benchmarks have their oddities, and their scores include them – and counted, or
*quarantined*: the question can't be scored by anyone, so it stays unscored, with the rule as its reason. A row that shows that
its file is not what it is taken for stops the command.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from evalkit.reading import Entry
from evalkit.types import LETTERS, Question
from modelkit.errors import DataError

Kind = Literal["single", "multiple", "cloze"]


@dataclass(frozen=True)
class Finding:
    """What a rule has to say about one row. ``row`` counts from 0, as in the questions' ids."""

    file: str
    row: int
    rule: str
    action: Literal["kept", "quarantined"]
    content: Any = None

    def to_json(self) -> dict[str, Any]:
        """The finding as a line of ``quarantine.jsonl``."""
        return asdict(self)


_MISSING = {"None", "none", "NA", "N/A", "nan", "NaN", "null", "NULL"}
_LETTERED = re.compile(r"[A-J](?:[\s,;/、，]*[A-J])*[.。]?")

KEPT: dict[str, Callable[[Entry], bool]] = {
    "empty option": lambda entry: not all(_options(entry)),
    "repeated option": lambda entry: len(set(_options(entry))) < len(entry.options),
    "option that reads like a missing value": lambda entry: not _MISSING.isdisjoint(_options(entry)),
    "answer with more than letters": lambda entry: bool(entry.options) and not _bare(entry.gold),
}
"""Rules that only count: rule → whether it holds for a row."""


def checked(
    entries: Sequence[Entry], subject: str, categories: tuple[str, ...], kind: Kind = "single", public: bool = True
) -> tuple[list[Question], list[Finding]]:
    """The questions of one file, in its order, and what the rules found. A quarantined question has a ``fault``.

    :param public: whether the file's answers are there to be checked.
    :raises DataError: for an answer that no reading of the row explains.
    """
    questions: list[Question] = []
    findings = _of_the_file(entries, kind)
    for entry in entries:
        gold, fault = _gold(entry, kind) if public else ("", "")
        fault = _unaskable(entry, kind) or fault
        findings += [_finding(entry, rule, "kept") for rule, holds in KEPT.items() if holds(entry)]
        if fault:
            findings.append(_finding(entry, fault, "quarantined"))
        questions.append(
            Question(
                f"{subject}/{entry.row}" + (f".{entry.part}" if entry.parts > 1 else ""),
                subject,
                categories,
                entry.text,
                entry.options if kind != "cloze" else (),
                "" if fault else gold,
                kind,
                entry.passage,
                entry.explanation,
                part=entry.part,
                parts=entry.parts,
                fault=fault,
            )
        )
    return questions, findings


def check_shots(shots: Sequence[Question]) -> None:
    """:raises DataError: when one of them has a fault, so that it would show a wrong answer, or none."""
    for question in shots:
        if question.fault:
            raise DataError(f"dev row {question.id} can't be a shot ({question.fault}): mend the file, or use --shots 0.")


def _gold(entry: Entry, kind: Kind) -> tuple[str, str]:
    """(the answer, what is wrong with it)."""
    gold = entry.gold
    if kind == "cloze":
        text = "" if gold is None else str(gold)
        return text, "" if text.strip() else "no answer"
    if isinstance(gold, int) and 0 <= gold < len(entry.options):
        return LETTERS[gold], ""
    stated = _stated(gold)
    if not stated.strip():
        return "", "no answer"
    named = sorted(set(re.findall("[A-J]", stated)))
    known = LETTERS[: len(entry.options)]
    if not _LETTERED.fullmatch(stated.strip()) or any(letter not in known for letter in named):
        raise DataError(f"{entry.file}:{entry.line} names {stated!r} as the right option: one of {', '.join(known)} is needed.")
    if kind == "single" and len(named) > 1:
        return "", "several answers to a question that should have one"
    return "".join(named), ""


def _options(entry: Entry) -> list[str]:
    """The options' texts, without the letters that some files write before them."""
    return [option.strip().removeprefix(f"({letter})").strip() for letter, option in zip(LETTERS, entry.options, strict=False)]


def _stated(gold: Any) -> str:
    return "".join(map(str, gold)) if isinstance(gold, (list, tuple)) else "" if gold is None else str(gold)


def _bare(gold: Any) -> bool:
    """Whether an answer is nothing but letters (or not there, or the place of an option)."""
    return isinstance(gold, int) or not re.search("[^A-J]", _stated(gold))


def _unaskable(entry: Entry, kind: Kind) -> str:
    if not (entry.text.strip() or entry.passage.strip()):
        return "no question"
    if kind != "cloze" and sum(map(bool, _options(entry))) < 2:
        return "fewer than two options"
    return ""


def _of_the_file(entries: Sequence[Entry], kind: Kind) -> list[Finding]:
    """What only shows beside the other rows: options of unusual number, labels of another type, questions asked before."""
    findings: list[Finding] = []
    usual = Counter(len(entry.options) for entry in entries).most_common(1)[0][0]
    typical = Counter(type(entry.gold) for entry in entries).most_common(1)[0][0]
    seen: dict[tuple[str, str, tuple[str, ...], int], Any] = {}
    for entry in entries:
        if len(entry.options) != usual:
            findings.append(_finding(entry, f"{len(entry.options)} options where most have {usual}", "kept"))
        if not isinstance(entry.gold, typical):
            findings.append(_finding(entry, f"answer is a {type(entry.gold).__name__} where most are a {typical.__name__}", "kept"))
        asked = (entry.passage, entry.text, entry.options, entry.part)
        if asked in seen:
            same = seen[asked] == entry.gold
            findings.append(_finding(entry, "repeated question" if same else "repeated question with another answer", "kept"))
        seen.setdefault(asked, entry.gold)
    return findings


def _finding(entry: Entry, rule: str, action: Literal["kept", "quarantined"]) -> Finding:
    return Finding(entry.file.name, entry.row, rule, action, entry.content if action == "quarantined" else None)
