"""Data files → rows as they stand there: every cell is text, and complaints name file and row."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from evalkit.types import LETTERS, Row
from modelkit.errors import DataError
from modelkit.fingerprint import sha256_of_file, sha256_of_text

R = TypeVar("R", bound=Row)


@dataclass(frozen=True)
class Columns:
    """Which columns (or fields) hold what. ``options`` names one column per option, or one that holds them all as a list."""

    question: str
    options: str | tuple[str, ...]
    gold: str
    passage: str = ""
    explanation: str = ""
    subject: str = ""

    @property
    def needed(self) -> list[str]:
        """The columns that must be there; those of options beyond the second may be missing, the answers' too."""
        return [self.question, *([self.options] if isinstance(self.options, str) else self.options[:2])]


@dataclass(frozen=True)
class Entry:
    """A question as it stands in its file, before anything is believed of it.

    :param row: counts the file's questions from 0.
    :param line: where a person finds it, from 1.
    :param gold: a letter, several, a list of them, the place of the option from 0, or what else stands there.
    :param part: place among the *parts* questions of one row.
    """

    file: Path
    row: int
    line: int
    text: str
    options: tuple[str, ...]
    gold: Any
    passage: str = ""
    explanation: str = ""
    subject: str = ""
    part: int = 0
    parts: int = 1
    content: Any = field(default=None, compare=False)


def read_entries(file: Path, columns: Columns | None) -> list[Entry]:
    """The questions of a CSV, JSON, JSONL or Parquet file.

    :param columns: ``None`` for a CSV file without a header, whose columns are question, options and letter.
    :raises DataError: for a file that is missing, empty, or damaged, or lacks a column.
    """
    if columns is None:
        return _headless(file)
    rows = {".csv": _csv_records, ".jsonl": read_objects, ".json": _json_records, ".parquet": _parquet_records}.get(file.suffix)
    if rows is None:
        raise DataError(f"{file} is no data file that can be read: CSV, JSON, JSONL or Parquet is needed.")
    records = rows(file)
    if not records:
        raise DataError(f"{file} holds no question.")
    for name in columns.needed:
        if name not in records[0][1]:
            raise DataError(f"{file}:1 has no column {name!r}: it has {', '.join(map(str, records[0][1]))}.")
    return [entry_of(file, row, line, record, columns) for row, (line, record) in enumerate(records)]


def entry_of(file: Path, row: int, line: int, record: dict[str, Any], columns: Columns) -> Entry:
    """A row's question, by its columns. Options are those that are there; an empty one at the end of several columns is none."""
    if isinstance(columns.options, str):
        held = record.get(columns.options)
        options = [_text(option) for option in held] if isinstance(held, (list, tuple)) else []
    else:
        options = [_text(record.get(name)) for name in columns.options]
        while len(options) > 2 and not options[-1] and columns.options[len(options) - 1] not in record:
            options.pop()
    passage, explanation, subject = (_text(record.get(name)) for name in (columns.passage, columns.explanation, columns.subject))
    gold = record.get(columns.gold)
    return Entry(file, row, line, _text(record.get(columns.question)), tuple(options), gold, passage, explanation, subject, content=record)


def read_jsonl(file: Path, kind: type[R]) -> list[R]:
    """The rows of a JSONL file; a row without a subject has its category, or ``all``.

    :raises DataError: for a missing or empty file, or a line that isn't a row of this kind.
    """
    rows: list[R] = []
    for number, value in _json_lines(file):
        try:
            row = kind.model_validate(value)
        except ValidationError as error:
            problem = error.errors()[0]
            raise DataError(f"{file}:{number}: {'.'.join(map(str, problem['loc'])) or 'row'}: {problem['msg']}.") from None
        row.subject = row.subject or row.category or "all"
        row.id = f"{row.subject}/{len(rows)}"
        rows.append(row)
    if not rows:
        raise DataError(f"{file} is empty.")
    return rows


def read_objects(file: Path) -> list[tuple[int, dict[str, Any]]]:
    """The objects of a JSONL file, each with its line.

    :raises DataError: for a missing or empty file, or a line that is no JSON object.
    """
    rows = []
    for number, value in _json_lines(file):
        if not isinstance(value, dict):
            raise DataError(f"{file}:{number} is no JSON object.")
        rows.append((number, value))
    if not rows:
        raise DataError(f"{file} is empty.")
    return rows


def read_json(file: Path) -> Any:
    """What a JSON file holds.

    :raises DataError: when it is missing or damaged.
    """
    try:
        return json.loads(_utf8(file))
    except json.JSONDecodeError as error:
        raise DataError(f"{file}:{error.lineno} is not valid JSON ({error.msg} at column {error.colno}).") from None


def sha256_of_files(files: Iterable[Path], root: Path) -> str:
    """``sha256:…`` over the sorted (path below *root*, sha256) pairs of *files*."""
    return sha256_of_text("\n".join(sorted(f"{file.relative_to(root).as_posix()} {sha256_of_file(file)}" for file in files)))


def _headless(file: Path) -> list[Entry]:
    rows = _csv_rows(file)
    width = len(rows[0])
    if not 4 <= width <= len(LETTERS) + 2:
        raise DataError(f"{file}:1 has {width} columns: question, options and letter are looked for, such as 6 for four options.")
    return [Entry(file, row, row + 1, cells[0], tuple(cells[1:-1]), cells[-1], content=cells) for row, cells in enumerate(rows)]


def _csv_records(file: Path) -> list[tuple[int, dict[str, Any]]]:
    header, *rows = _csv_rows(file)
    return [(number, dict(zip(header, cells, strict=True))) for number, cells in enumerate(rows, start=2)]


def _csv_rows(file: Path) -> list[list[str]]:
    try:
        rows = [row for row in csv.reader(io.StringIO(_utf8(file), newline=""), strict=True) if row]
    except csv.Error as error:
        raise DataError(f"{file} is no CSV file ({error}).") from None
    if not rows:
        raise DataError(f"{file} is empty.")
    for number, row in enumerate(rows, start=1):
        if len(row) != len(rows[0]):
            raise DataError(
                f"{file}:{number} has {len(row)} columns where the first row has {len(rows[0])}: mend the row (is a quote missing?)."
            )
    return rows


def _json_records(file: Path) -> list[tuple[int, dict[str, Any]]]:
    value = read_json(file)
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise DataError(f"{file} should hold a list of JSON objects.")
    return list(enumerate(value, start=1))


def _parquet_records(file: Path) -> list[tuple[int, dict[str, Any]]]:
    import pyarrow
    import pyarrow.parquet

    try:
        return list(enumerate(pyarrow.parquet.read_table(file).to_pylist(), start=1))
    except FileNotFoundError:
        raise DataError(f"there is no file {file}.") from None
    except pyarrow.ArrowInvalid as error:
        raise DataError(f"{file} is no Parquet file ({error}).") from None


def _json_lines(file: Path) -> list[tuple[int, Any]]:
    values = []
    for number, line in enumerate(_utf8(file).split("\n"), start=1):
        if line.strip():
            try:
                values.append((number, json.loads(line)))
            except json.JSONDecodeError as error:
                raise DataError(f"{file}:{number} is not valid JSON ({error.msg} at column {error.colno}).") from None
    return values


def _utf8(file: Path) -> str:
    """The file's text without a byte order mark, its line ends as they are."""
    try:
        return file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"there is no data file {file}.") from None
    except (UnicodeDecodeError, IsADirectoryError):
        raise DataError(f"{file} is no UTF-8 text file.") from None


def _text(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else str(value)
