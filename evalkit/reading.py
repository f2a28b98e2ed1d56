"""Data files → rows, checked: every complaint names file and row, and no cell is ever taken for a missing value."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from evalkit.types import LETTERS, Question, Row
from modelkit.errors import UserError
from modelkit.fingerprint import sha256_of_file, sha256_of_text

R = TypeVar("R", bound=Row)


def read_questions(file: Path, subject: str, categories: tuple[str, ...], header: Sequence[str] | None = None) -> list[Question]:
    """The questions of a CSV file, as text: "None" and "NA" are answers like any other.

    :param header: names of the columns that hold question, options and letter; ``None`` for a file without a header, whose
        columns are exactly these.
    :raises UserError: for an unreadable file, a row with too few or too many columns, a letter that is no option's.
    """
    rows = _csv_rows(file)
    first = 0
    columns: Sequence[int] | None = None
    if header is not None:
        missing = [name for name in header if name not in rows[0]]
        if missing:
            raise UserError(f"{file}:1 has no column {missing[0]!r}: its header should name {', '.join(header)}.")
        columns, first = [rows[0].index(name) for name in header], 1
    width = len(rows[0])
    if width < 4 or (columns is None and width - 2 > len(LETTERS)):
        raise UserError(f"{file}:1 has {width} columns: question, options and letter are looked for, such as 6 for four options.")
    questions = []
    for number, row in enumerate(rows[first:], start=first + 1):
        if len(row) != width:
            raise UserError(f"{file}:{number} has {len(row)} columns where the first row has {width}: mend the row (is a quote missing?).")
        text, *options, gold = row if columns is None else [row[column] for column in columns]
        if gold not in LETTERS[: len(options)] or len(gold) != 1:
            raise UserError(f"{file}:{number} names {gold!r} as the right option: one of {', '.join(LETTERS[: len(options)])} is needed.")
        questions.append(Question(f"{subject}/{number - first - 1}", subject, categories, text, tuple(options), gold))
    if not questions:
        raise UserError(f"{file} holds no question.")
    return questions


def read_jsonl(file: Path, kind: type[R]) -> list[R]:
    """The rows of a JSONL file; a row without a subject has its category, or ``all``.

    :raises UserError: for a missing or empty file, or a line that isn't a row of this kind.
    """
    rows: list[R] = []
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError:
        raise UserError(f"there is no data file {file}: check `data` in task.yaml.") from None
    except (UnicodeDecodeError, IsADirectoryError):
        raise UserError(f"{file} is no UTF-8 text file.") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = kind.model_validate(json.loads(line))
        except json.JSONDecodeError as error:
            raise UserError(f"{file}:{number} is not valid JSON ({error.msg} at column {error.colno}).") from None
        except ValidationError as error:
            problem = error.errors()[0]
            raise UserError(f"{file}:{number}: {'.'.join(map(str, problem['loc'])) or 'row'}: {problem['msg']}.") from None
        row.subject = row.subject or row.category or "all"
        row.id = f"{row.subject}/{len(rows)}"
        rows.append(row)
    if not rows:
        raise UserError(f"{file} is empty.")
    return rows


def oddities(questions: Iterable[Question]) -> dict[str, int]:
    """How many questions have an empty option, or the same option twice: allowed, since benchmarks have them, but counted."""
    found: Counter[str] = Counter()
    for question in questions:
        found["empty option"] += any(not option.strip() for option in question.options)
        found["repeated option"] += len(set(question.options)) < len(question.options)
    return {what: count for what, count in found.items() if count}


def sha256_of_files(files: Iterable[Path], root: Path) -> str:
    """``sha256:…`` over the sorted (path below *root*, sha256) pairs of *files*."""
    return sha256_of_text("\n".join(sorted(f"{file.relative_to(root).as_posix()} {sha256_of_file(file)}" for file in files)))


def _csv_rows(file: Path) -> list[list[str]]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            rows = [row for row in csv.reader(stream, strict=True) if row]
    except FileNotFoundError:
        raise UserError(f"there is no file {file}.") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file} is no UTF-8 CSV file ({error}).") from None
    if not rows:
        raise UserError(f"{file} is empty.")
    return rows
