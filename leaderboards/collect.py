"""Every result and every judges' battle below the paths given, with the run and the stage it belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from leaderboards.reading import FOREIGN, read
from modelkit.errors import UserError
from modelkit.records import Result
from modelkit.run import Run, Stage


@dataclass(frozen=True)
class Found:
    """A readable result. ``written`` is its file's modification time (unix seconds): of two results the later one counts."""

    result: Result
    file: Path
    written: float
    run: Run | None = None

    @property
    def stage(self) -> Stage | None:
        """The stage of the run that was measured, or ``None`` for a checkpoint from elsewhere."""
        stages = {stage.name: stage for stage in self.run.info.stages} if self.run else {}
        return stages.get(Path(self.result.model.path).name) or stages.get(self.result.model.stage or "")


@dataclass
class Collection:
    """What was found: readable results in the order of the runs, folders of judgings, and what there is to say.

    ``damaged`` has one sentence for each file that couldn't be read; ``notes`` one for whatever in a readable file counts for nothing.
    """

    results: list[Found] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    judgings: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, file: Path, run: Run | None = None) -> None:
        """Read a file of results, or note why that isn't possible."""
        try:
            results, notes = read(file)
        except UserError as error:
            self.damaged.append(str(error))
            return
        self.results += [Found(result, file, file.stat().st_mtime, run) for result in results]
        self.notes += [f"{file}: {note}" for note in notes]

    @property
    def twins(self) -> set[str]:
        """Ids that results of different content share. A copy of a result is no twin of it."""
        same: dict[str, list[Result]] = {}
        for found in self.results:
            same.setdefault(found.result.id, []).append(found.result)
        return {name for name, results in same.items() if any(other != results[0] for other in results[1:])}


def collect(paths: Sequence[Path]) -> Collection:
    """Read the results of runs, of folders of runs, of folders of results (each looked at one level deep), and single files.

    Files of other harnesses are found at any depth, by their names.

    :raises UserError: when a path isn't there, or when no results are found below any of them.
    """
    collection = Collection()
    for folder in _folders([path for path in paths if not path.is_file()]):
        if (folder / "run.json").is_file():
            try:
                collect_run(Run.open(folder), collection)
            except UserError as error:
                collection.damaged.append(str(error))
        elif (folder / "results.json").is_file():
            collection.add(folder / "results.json")
        elif (folder / "judging.json").is_file():
            collection.judgings.append(folder)
    for file in _files(paths):
        collection.add(file)
    if not collection.results and not collection.damaged:
        raise UserError(f"there are no results below {', '.join(map(str, paths))}: make some with `evalkit run -m CHECKPOINT -t TASK`.")
    return collection


def collect_run(run: Run, collection: Collection) -> None:
    """Add the results in a run's ``eval/`` to *collection*, those of judgings included, half-made (dot) folders left out."""
    for pattern in ("[!.]*/results.json", "[!.]*/[!.]*/results.json"):
        for file in sorted(run.evaluations().glob(pattern)):
            collection.add(file, run)
    collection.judgings += [file.parent for file in sorted(run.evaluations().glob("[!.]*/judging.json"))]


def _folders(paths: Iterable[Path]) -> Iterator[Path]:
    """Each path, the folders directly in it and those in a judging, once each, half-made (dot) folders left out."""
    seen: set[Path] = set()
    for path in paths:
        if not path.is_dir():
            raise UserError(f"there is no folder at {path}: name a run, a folder of runs, a folder of results, or a file of results.")
        inside = sorted(child for child in path.iterdir() if child.is_dir() and not child.name.startswith("."))
        judged = [
            child
            for folder in [path, *inside]
            if (folder / "judging.json").is_file()
            for child in sorted(folder.iterdir())
            if child.is_dir()
        ]
        for folder in [path, *inside, *judged]:
            if folder.resolve() not in seen:
                seen.add(folder.resolve())
                yield folder


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    """The files given, and those below the folders given that are called like another harness' results, once each."""
    seen: set[Path] = set()
    for path in paths:
        below = [path] if path.is_file() else sorted(file for pattern in FOREIGN for file in path.rglob(pattern))
        for file in below:
            if file.resolve() not in seen and not any(part.startswith(".") for part in file.relative_to(path).parts):
                seen.add(file.resolve())
                yield file
