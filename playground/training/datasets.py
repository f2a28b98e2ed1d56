"""Data to train on: files of the operator's folder by id, files that a visitor has uploaded; looked at, and shared out among stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from modelkit.errors import DataError, UserError

if TYPE_CHECKING:
    from trainers.data.check import Report
    from trainers.data.formats import Kind

UPLOADED = (".jsonl", ".json", ".csv", ".txt")
"""What may be uploaded. Compressed formats, whose content can be of any size, are the operator's to bring."""
MOST_FILES = 4
_OFFERED = (*UPLOADED, ".gz", ".parquet")
_MOST_OFFERED = 500
_LOOKS = 32

WANTED: dict[str, Kind] = {
    "base": "text",
    "sft": "sft",
    "rm": "preference",
    "rl": "prompts",
    "dpo": "preference",
    "kto": "unpaired",
    "grpo": "prompts",
}
"""The kind of rows that each stage learns from."""


def offered(folder: Path | None) -> dict[str, Path]:
    """The operator's data files by their ids, which are all that a visitor ever sends."""
    if folder is None or not folder.is_dir():
        return {}
    files = (file for file in sorted(folder.rglob("*")) if file.suffix in _OFFERED and file.is_file())
    return {file.relative_to(folder).as_posix(): file for file, _ in zip(files, range(_MOST_OFFERED), strict=False)}


def chosen(folder: Path | None, ids: Sequence[str], uploads: Sequence[str | Path], most_bytes: int) -> dict[str, Path]:
    """The files that a visitor has chosen or uploaded, by the names that they are shown under.

    :raises UserError: for an id that is not offered; for uploads that are too many, too large, or of another kind.
    """
    known = offered(folder)
    unknown = [name for name in ids if name not in known]
    if unknown:
        raise UserError("this file is not in the list: choose one of those offered.")
    found = {name: known[name] for name in ids}
    for file in map(Path, uploads):
        if file.suffix.lower() not in UPLOADED:
            raise DataError(f"{file.name} can't be read here: upload {', '.join(UPLOADED[:-1])} or {UPLOADED[-1]}.")
        found[file.name] = file
    if len(found) < len(ids) + len(uploads):
        raise UserError("two of these files have the same name: rename one.")
    if len(found) > MOST_FILES:
        raise UserError(f"these are {len(found)} files: choose at most {MOST_FILES}.")
    size = sum(Path(file).stat().st_size for file in uploads)
    if size > most_bytes:
        raise UserError(f"these uploads have {size / 2**20:,.1f} MiB, more than the {most_bytes / 2**20:,.1f} allowed: shorten them.")
    return found


def look(name: str, file: Path, tokenizer: Path | None) -> Report:
    """What a file is, how long its rows are, and which tokens of its first row would be learnt (with a checkpoint's *tokenizer*).

    What was found is remembered for a while, so it is told without the rows themselves.

    :raises UserError: when it can't be read or holds no usable row; the sentence calls it by *name*.
    """
    try:
        return _look(file, file.stat().st_mtime_ns, tokenizer)
    except UserError as error:
        raise DataError(str(error).replace(str(file), name)) from None


@lru_cache(_LOOKS)
def _look(file: Path, _written: int, tokenizer: Path | None) -> Report:
    from modelkit.checkpoint import load_tokenizer
    from modelkit.device import import_transformers
    from trainers.data.check import check

    import_transformers()
    report = check(file, tokenizer=load_tokenizer(tokenizer) if tokenizer else None)
    return replace(report, loaded=replace(report.loaded, rows=[], places=[]))


def shared_out(stages: Sequence[str], reports: Mapping[str, Report]) -> dict[str, list[str]]:
    """The names of the files that each stage learns from: those of its own kind, else those that can serve as it (pairs as prompts).

    :raises UserError: when a stage has none.
    """
    found = {}
    for stage in stages:
        kind = WANTED[stage]
        own = [name for name, report in reports.items() if report.kind == kind]
        serving = [name for name, report in reports.items() if report.usable[kind]]
        if not own and not serving:
            raise UserError(f"the stage {stage} learns from rows of kind {kind}, and no file chosen has any: leave it out, or add a file.")
        found[stage] = own or serving
    return found
