"""Files, directories and datasets by name → raw rows, each with the place it stands at."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import re
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelkit.errors import DataError
from modelkit.fingerprint import sha256_of_file, sha256_of_text

HUB = "hf:"
"""What the name of a dataset on the Hugging Face Hub begins with, so that a misspelt path never becomes a download."""

_JSON = {"", ".json", ".jsonl", ".ndjson"}
_SUFFIXES = _JSON - {""} | {".csv", ".parquet", ".txt", ".arrow"}
_SPLITS = re.compile(r"(?:^|[^a-z])(train|test|validation|valid|val|dev)(?:[^a-z]|$)")
_BLANK = re.compile(r"[ \t\n\r]*")


class BadRow(ValueError):
    """A row that can't be used; the message says why."""


@dataclass(frozen=True)
class Place:
    """Where a row stands: its line in a text file, its number (from 1) where several share a line or there are no lines."""

    file: str
    line: int | None = None
    row: int | None = None

    def __str__(self) -> str:
        line = f":{self.line}" if self.line is not None else ""
        row = "" if self.row is None else f": row {self.row}" if self.line is None else f" (row {self.row})"
        return f"{self.file}{line}{row}"


@dataclass
class Source:
    """One or more files that together are a set of rows; ``notes`` collects what was surprising about them."""

    name: str
    sha256: str
    files: list[Path]
    notes: list[str]

    def rows(self) -> Iterator[tuple[Place, Any]]:
        """(place, raw row, or the :class:`BadRow` that stands there) for every row, in order.

        :raises DataError: when a file as a whole can't be read.
        """
        for file in self.files:
            yield from _rows(file, self.notes)


class HubSource(Source):
    """A split of a dataset that the ``datasets`` library fetched."""

    def __init__(self, name: str, dataset: Any) -> None:
        super().__init__(name, sha256_of_text(f"{name} {dataset._fingerprint}"), [], [])
        self._dataset = dataset

    def rows(self) -> Iterator[tuple[Place, Any]]:
        for i, row in enumerate(self._dataset):
            yield Place(self.name, row=i + 1), row


def open_source(name: str | Path) -> Source:
    """A data file, a directory of them (as the Hub lays them out, or as ``datasets`` saves to disk), or ``hf:owner/name[/subset]``.

    ``:split`` behind a directory or a name picks one of several splits.

    :raises DataError: when it isn't there, can't be fetched, or has several splits and none is named.
    """
    if str(name).startswith(HUB):
        return _fetched(str(name))
    path, split = Path(name), None
    if not path.exists() and ":" in path.name:
        stem, _, split = str(name).rpartition(":")
        path = Path(stem)
    if path.is_dir():
        files = _files_of(path, split)
        listing = "\n".join(f"{file.relative_to(path)} {sha256_of_file(file)}" for file in files)
        return Source(str(name), sha256_of_text(listing), files, [])
    if not path.is_file():
        raise DataError(f"there is no data file at {path}: check the path, or write hf:owner/name for a dataset on the Hub.")
    if _suffix(path) not in _SUFFIXES | {""}:
        raise DataError(f"{path} is no data file that can be read: use {', '.join(sorted(_SUFFIXES))}, each also as .gz.")
    return Source(str(path), sha256_of_file(path), [path], [])


def _fetched(name: str) -> Source:
    repository, _, split = name.removeprefix(HUB).partition(":")
    owner, _, rest = repository.partition("/")
    title, _, subset = rest.partition("/")
    if not owner or not title:
        raise DataError(f"{name!r} names no dataset: write hf:owner/name, hf:owner/name:split or hf:owner/name/subset:split.")
    import datasets

    try:
        return HubSource(name, datasets.load_dataset(f"{owner}/{title}", subset or None, split=split or "train"))
    except Exception as error:  # the library raises whatever its network and parsers do
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:150]
        raise DataError(f"the dataset {name} can't be fetched ({reason}): go online, or name the folder of a local copy.") from None


def _suffix(path: Path) -> str:
    return Path(path.name.removesuffix(".gz")).suffix.lower()


def _files_of(folder: Path, split: str | None) -> list[Path]:
    """The data files of a dataset's directory, sorted by name (or in the order that ``save_to_disk`` noted)."""
    if (folder / "dataset_dict.json").is_file():
        splits = json.loads((folder / "dataset_dict.json").read_text(encoding="utf-8"))["splits"]
        if split not in splits:
            raise DataError(f"{folder} holds the splits {', '.join(splits)}: name one, as {folder}:{splits[0]}.")
        return _files_of(folder / str(split), None)
    if (folder / "state.json").is_file():
        parts = json.loads((folder / "state.json").read_text(encoding="utf-8"))["_data_files"]
        return [folder / Path(part["filename"]).name for part in parts]
    found: dict[str | None, list[Path]] = {}
    for file in sorted(file for file in folder.rglob("*") if file.is_file() and _suffix(file) in _SUFFIXES):
        inside = file.relative_to(folder)
        if not any(part.startswith(".") for part in inside.parts):
            named = _SPLITS.search(str(inside).lower())
            found.setdefault(named[1] if named else None, []).append(file)
    if split is not None:
        found = {split: found[split]} if split in found else {}
    if not found:
        raise DataError(f"{folder} holds no data file{f' of a split {split!r}' if split else ''}: name a .jsonl, .csv or .parquet file.")
    if len(found) > 1:
        names = [str(name) for name in found if name]
        raise DataError(f"{folder} holds several splits ({', '.join(names)}): name one, as {folder}:{names[0]}, or a file.")
    return next(iter(found.values()))


def _rows(path: Path, notes: list[str]) -> Iterator[tuple[Place, Any]]:
    suffix = _suffix(path)
    if suffix in (".parquet", ".arrow"):
        yield from _arrow(path, suffix)
        return
    content = _content(path).removeprefix(b"\xef\xbb\xbf")
    if suffix == ".csv":
        yield from _csv(path, _decoded(path, content))
    elif suffix == ".txt":
        for place, text in _lines(path, content):
            yield place, text if isinstance(text, BadRow) else {"text": text}
    elif content.lstrip()[:1] == b"[":
        if suffix == ".jsonl":
            notes.append(f"{path} is named .jsonl but holds one JSON array")
        yield from _array(path, _decoded(path, content))
    elif (whole := _one_object(content)) is not None:
        lists = [
            (key, value) for key, value in whole.items() if isinstance(value, list) and value and all(isinstance(v, dict) for v in value)
        ]
        if len(lists) == 1 and not {"messages", "conversations"} & whole.keys():
            notes.append(f"{path} is one JSON object: the rows are those of its field {lists[0][0]!r}")
            yield from ((Place(str(path), row=i + 1), row) for i, row in enumerate(lists[0][1]))
        else:
            yield Place(str(path), 1), whole
    else:
        if suffix == ".json":
            notes.append(f"{path} is named .json but holds JSON Lines")
        for place, text in _lines(path, content):
            yield place, text if isinstance(text, BadRow) else _parsed(text)


def _content(path: Path) -> bytes:
    try:
        content = gzip.decompress(path.read_bytes()) if path.name.endswith(".gz") else path.read_bytes()
        if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise DataError(f"{path} is UTF-16 text: save the file as UTF-8.")
        return content
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path} is damaged or no gzip file ({error}): copy it again.") from None


def _decoded(path: Path, content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}:{line} is not UTF-8 text ({error.reason}): save the file as UTF-8.") from None


def _lines(path: Path, content: bytes) -> Iterator[tuple[Place, str | BadRow]]:
    for i, line in enumerate(content.splitlines()):
        if not line.strip():
            continue
        place = Place(str(path), i + 1)
        if b"\0" in line:
            yield place, BadRow("NUL bytes: the file may have been cut off or not fully copied")
            continue
        try:
            yield place, line.decode("utf-8")
        except UnicodeDecodeError as error:
            yield place, BadRow(f"not UTF-8 text ({error.reason})")


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        return BadRow(f"not valid JSON ({error.msg})")
    except (ValueError, RecursionError) as error:
        return BadRow(f"not readable as JSON ({error})")


def _one_object(content: bytes) -> dict[str, Any] | None:
    """The content as one JSON object spread over several lines, unless it is something else (JSON Lines, most of the time)."""
    lines = content.strip().splitlines()
    if len(lines) < 2 or content.lstrip()[:1] != b"{" or lines[0].rstrip().endswith(b"}"):
        return None
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _array(path: Path, text: str) -> Iterator[tuple[Place, Any]]:
    """The elements of a JSON array with the lines they begin at."""
    decoder = json.JSONDecoder()
    at, line, row, seen = text.index("[") + 1, 1, 0, 0
    try:
        at = _BLANK.match(text, at).end()  # type: ignore[union-attr]
        while text[at : at + 1] != "]":
            line, seen, row = line + text.count("\n", seen, at), at, row + 1
            value, at = decoder.raw_decode(text, at)
            yield Place(str(path), line, row), value
            at = _BLANK.match(text, at).end()  # type: ignore[union-attr]
            if text[at : at + 1] == ",":
                at = _BLANK.match(text, at + 1).end()  # type: ignore[union-attr]
            elif text[at : at + 1] != "]":
                raise json.JSONDecodeError("the array is not closed" if at >= len(text) else "a comma is missing", text, at)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno} is not valid JSON ({error.msg}): mend it, or make it JSON Lines, a row each.") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: row {row} is not readable as JSON ({error}).") from None


def _csv(path: Path, text: str) -> Iterator[tuple[Place, Any]]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # a whole conversation in one field is normal here
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        line = reader.line_num if reader.fieldnames else 0
        for row in reader:
            yield Place(str(path), line + 1), BadRow("more fields than the header names") if None in row else row
            line = reader.line_num
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num} is not valid CSV ({error}).") from None


def _arrow(path: Path, suffix: str) -> Iterator[tuple[Place, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        content = pyarrow.BufferReader(_content(path)) if path.name.endswith(".gz") else str(path)
        if suffix == ".parquet":
            batches = pyarrow.parquet.ParquetFile(content).iter_batches()
        else:
            batches = iter(pyarrow.ipc.open_stream(content if isinstance(content, pyarrow.BufferReader) else pyarrow.memory_map(content)))
        number = 0
        for batch in batches:
            for row in batch.to_pylist():
                number += 1
                yield Place(str(path), row=number), {key: value for key, value in row.items() if value is not None}
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path} can't be read as {suffix[1:]} ({str(error).splitlines()[0][:150]}): copy it again.") from None
