"""Benchmarks of one file per subject: finding their layout, and reading the questions file by file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from evalkit.protocol import Protocol
from evalkit.reading import Columns, Entry, read_entries, sha256_of_files
from evalkit.tasks.hub import Hub, Read, read_hub
from evalkit.types import ChoiceTask, Question
from evalkit.validation import Finding, check_shots, checked
from modelkit.errors import DataError, UserError


@dataclass(frozen=True)
class Benchmark:
    """A benchmark's questions, wherever they lie: in its original layout, in a copy of its dataset, or on the hub.

    :param split: the split that is asked; ``dev`` holds the shots.
    :param file: a subject's file below the split's folder, with ``{subject}`` and ``{split}``.
    :param columns: of the original files; ``None`` for files without a header.
    :param subjects: all of the benchmark's subjects.
    :param categories: subject → the categories it counts in.
    :param hidden: splits whose answers are not public.
    """

    name: str
    split: str
    file: str
    columns: Columns | None
    subjects: Sequence[str]
    categories: Callable[[str], tuple[str, ...]]
    hub: Hub
    hidden: Sequence[str] = ()

    def load(
        self, protocol: Protocol, data: Path | None, shots: int | None, methods: Sequence[str] | None, split: str | None = None
    ) -> ChoiceTask:
        """The task, read and checked.

        :raises UserError: when the data is nowhere, not laid out so, or damaged, or has fewer shots than asked for.
        """
        asked = split or self.split
        if asked not in (self.split, *self.hidden):
            raise UserError(f"{self.name} has no split {asked!r}: use {' or '.join((self.split, *self.hidden))}.")
        count = protocol.shots if shots is None else shots
        splits = [asked, "dev"] if count else [asked]
        read = self._original(data, splits) or read_hub(self.name, self.hub, data, splits)
        questions: dict[str, dict[str, list[Question]]] = {name: {} for name in splits}
        findings: list[Finding] = []
        for (name, subject), entries in read.entries.items():
            found, spoken = checked(entries, subject, self.categories(subject), public=name not in self.hidden)
            questions[name][subject] = found
            findings += spoken if name == asked else []
        dev = {subject: self._shots(protocol, found, count) for subject, found in questions.get("dev", {}).items()}
        return ChoiceTask(
            f"{self.name}@{protocol.name}",
            read.sha256,
            [question for subject in sorted(questions[asked]) for question in questions[asked][subject]],
            protocol,
            dev,
            count,
            methods or protocol.methods,
            findings,
            self.subjects,
            origin=read.origin,
        )

    def _shots(self, protocol: Protocol, found: Sequence[Question], count: int) -> list[Question]:
        """:raises UserError: when there are too few, or one of them has a fault."""
        if len(found) < count:
            raise UserError(f"{count} shots were asked for, but dev of {found[0].subject} has only {len(found)}: use --shots {len(found)}.")
        check_shots(found[:count])
        return protocol.choose(found, count)

    def _original(self, data: Path | None, splits: Sequence[str]) -> Read | None:
        """The files of the original layout below *data*; ``None`` where there is no sign of it."""
        root = data and below(data, self.name, lambda folder: any((folder / splits[0]).glob("*.csv")))
        if root is None:
            return None
        ending = self.file.format(subject="", split=splits[0])
        entries: dict[tuple[str, str], list[Entry]] = {}
        files = []
        for found in sorted((root / splits[0]).glob(f"*{ending}")):
            subject = found.name.removesuffix(ending)
            if subject not in self.subjects:
                raise DataError(f"{found} is no subject of {self.name}{near(subject, self.subjects)}: remove the file, or check --data.")
            for split in splits:
                file = root / split / self.file.format(subject=subject, split=split)
                entries[split, subject] = read_entries(file, self.columns)
                files.append(file)
        if not files:
            raise DataError(f"{root / splits[0]} holds no file called <subject>{ending}.")
        return Read(entries, sha256_of_files(files, root))


def below(data: Path, name: str, holds: Callable[[Path], bool]) -> Path | None:
    """The first of *data*, its ``data``, and the same below ``<data>/<name>``, of which *holds* is true.

    :raises DataError: when there is no folder *data*.
    """
    if not data.is_dir():
        raise DataError(f"there is no folder {data}: --data should name the one that holds {name} in its original layout.")
    return next((root for root in (data, data / "data", data / name, data / name / "data") if holds(root)), None)


def near(name: str, known: Sequence[str]) -> str:
    """A hint at the known name most like *name*, to put into a complaint; empty where none is."""
    found = get_close_matches(name, known, 1)
    return f" (did you mean {found[0]!r}?)" if found else ""
