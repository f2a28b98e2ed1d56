"""Benchmarks by name: through ``datasets`` when there is a network, or from a local copy of such a dataset's folder."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from evalkit.reading import Columns, Entry, entry_of, read_entries, sha256_of_files
from modelkit.errors import DataError, UserError
from modelkit.fingerprint import sha256_of_text

_FILES = (".parquet", ".jsonl", ".json", ".csv")


@dataclass(frozen=True)
class Hub:
    """A dataset that has one configuration per subject. ``splits`` gives those called otherwise there than in the original."""

    dataset: str
    columns: Columns
    subjects: Sequence[str]
    splits: dict[str, str]


@dataclass(frozen=True)
class Read:
    """What was read: rows by (split, subject), the data's hash, and its name and revision where it came by name."""

    entries: dict[tuple[str, str], list[Entry]]
    sha256: str
    origin: str = ""


def read_hub(name: str, hub: Hub, data: Path | None, splits: Sequence[str]) -> Read:
    """All subjects' rows of the benchmark *name*: from the dataset's copy in *data*, or by name where *data* is not given.

    :raises UserError: when neither can be had.
    """
    if data is None:
        return _by_name(hub, splits)
    found = {(split, subject): _copies(data, subject, hub.splits.get(split, split)) for subject in hub.subjects for split in splits}
    subjects = [subject for subject in hub.subjects if found[splits[0], subject]]
    if not subjects:
        wanted = " and ".join(f"{split}/*.csv" for split in splits)
        raise DataError(
            f"{data} is not laid out like {name}: {wanted} were looked for in it, in its data/ and in its {name}/, and so was a "
            f"copy of the dataset {hub.dataset} with a folder for each subject."
        )
    files: list[Path] = []
    entries: dict[tuple[str, str], list[Entry]] = {}
    for subject in subjects:
        for split in splits:
            if not found[split, subject]:
                raise DataError(f"{data / subject} holds no {hub.splits.get(split, split)} split.")
            files += found[split, subject]
            rows = [entry for file in found[split, subject] for entry in read_entries(file, hub.columns)]
            entries[split, subject] = _numbered(rows)
    return Read(entries, sha256_of_files(files, data), hub.dataset)


def _copies(data: Path, subject: str, split: str) -> list[Path]:
    """The files of a subject's split in a copy of the dataset: ``<subject>/<split>*`` or ``<subject>/<split>/*``."""
    folder = data / subject
    named = re.compile(rf"(?:.*[-_])?{re.escape(split)}(?:[-_.].*)?")
    beside = [file for file in folder.glob("*") if file.suffix in _FILES and named.fullmatch(file.stem)]
    return sorted(beside or [file for file in folder.glob(f"*{split}/*") if file.suffix in _FILES])


def _numbered(entries: Iterable[Entry]) -> list[Entry]:
    """Rows of several files of one split, counted through."""
    return [replace(entry, row=row) for row, entry in enumerate(entries)]


def _by_name(hub: Hub, splits: Sequence[str]) -> Read:
    import datasets

    revision = _attempt(hub, lambda: _revision(hub.dataset))
    entries: dict[tuple[str, str], list[Entry]] = {}
    for subject in hub.subjects:
        for split in splits:
            called = hub.splits.get(split, split)
            read = partial(datasets.load_dataset, hub.dataset, subject, split=called, revision=revision)
            rows: Iterable[dict[str, Any]] = _attempt(hub, read)
            place = Path(f"{hub.dataset}/{subject}/{called}")
            entries[split, subject] = [entry_of(place, row, row + 1, dict(record), hub.columns) for row, record in enumerate(rows)]
    told = [[split, subject, [(entry.text, entry.options, entry.gold) for entry in rows]] for (split, subject), rows in entries.items()]
    return Read(entries, sha256_of_text(json.dumps(told, ensure_ascii=False)), f"{hub.dataset}@{revision or 'cached'}")


def _revision(dataset: str) -> str | None:
    """The dataset's commit on the hub; ``None`` where Hugging Face libraries were told to stay offline."""
    import huggingface_hub
    from huggingface_hub.constants import HF_HUB_OFFLINE

    return None if HF_HUB_OFFLINE else huggingface_hub.HfApi().dataset_info(dataset, timeout=10).sha


def _attempt(hub: Hub, read: Callable[[], Any]) -> Any:
    """:raises UserError: in place of whatever the libraries raise without a network or a cached copy."""
    try:
        return read()
    except Exception as error:
        why = f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"
        raise UserError(
            f"{hub.dataset} can't be had by name here ({why}): give --data DIR, the folder that holds the benchmark in its original layout "
            "or a copy of the dataset."
        ) from None
