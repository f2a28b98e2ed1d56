"""Every result below the paths given, with the run and the stage it belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

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
    """What was found: readable results in the order of the runs, and one sentence for each file that couldn't be read."""

    results: list[Found] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)

    def add(self, file: Path, run: Run | None = None) -> None:
        """Read one results.json, or note why that isn't possible."""
        try:
            self.results.append(Found(Result.read(file), file, file.stat().st_mtime, run))
        except UserError as error:
            self.damaged.append(str(error))


def collect(paths: Sequence[Path]) -> Collection:
    """Read the results of runs, of folders of runs, and of folders of results (each looked at one level deep).

    :raises UserError: when a path isn't there, or when no results are found below any of them.
    """
    collection = Collection()
    for folder in _folders(paths):
        if (folder / "run.json").is_file():
            try:
                collect_run(Run.open(folder), collection)
            except UserError as error:
                collection.damaged.append(str(error))
        elif (folder / "results.json").is_file():
            collection.add(folder / "results.json")
    if not collection.results and not collection.damaged:
        raise UserError(f"there are no results below {', '.join(map(str, paths))}: make some with `evalkit run -m CHECKPOINT -t TASK`.")
    return collection


def collect_run(run: Run, collection: Collection) -> None:
    """Add the results in a run's ``eval/`` to *collection*, those of judgings included."""
    for pattern in ("*/results.json", "*/*/results.json"):
        for file in sorted(run.evaluations().glob(pattern)):
            collection.add(file, run)


def _folders(paths: Iterable[Path]) -> Iterator[Path]:
    """Each path, the folders directly in it and those in a judging, once each, half-made (dot) folders left out."""
    seen: set[Path] = set()
    for path in paths:
        if not path.is_dir():
            raise UserError(f"there is no folder at {path}: name a run, a folder of runs, or a folder of results.")
        inside = sorted(child for child in path.iterdir() if child.is_dir() and not child.name.startswith("."))
        judged = [child for folder in inside if (folder / "judging.json").is_file() for child in sorted(folder.iterdir()) if child.is_dir()]
        for folder in [path, *inside, *judged]:
            if folder.resolve() not in seen:
                seen.add(folder.resolve())
                yield folder
