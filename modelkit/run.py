"""A run is a directory of checkpoints: the one thing that trainers, evalkit, leaderboards and the playground share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ValidationError

from modelkit import atomic
from modelkit.errors import UserError

StageKind = Literal["base", "sft", "reward", "critic", "rl"]


class Stage(BaseModel):
    """One checkpoint-to-be of a run. ``name`` is its directory; ``title`` what the playground calls it, by language.

    ``copy_of`` names the stage that this one is a smaller copy of: it is offered, but never stands for its kind.
    """

    name: str
    kind: StageKind
    title: dict[str, str]
    copy_of: str | None = None


class RunInfo(BaseModel):
    """``run.json``: what a run is called, the sha256 of its recipe, its languages, and its stages in order."""

    format: Literal[1] = 1
    name: str
    recipe: str
    languages: list[str]
    seed: int = 0
    stages: list[Stage]


@dataclass(frozen=True)
class Run:
    """An opened run directory. Only ``run.json`` is read on opening; what is ready is looked up when asked."""

    path: Path
    info: RunInfo

    @classmethod
    def open(cls, path: Path) -> Run:
        """:raises UserError: when *path* holds no readable ``run.json``."""
        file = path / "run.json"
        if not file.is_file():
            raise UserError(f"{path} is not a run: it has no run.json (make one with `trainers run RECIPE --out {path}`).")
        try:
            return cls(path, RunInfo.model_validate_json(file.read_text(encoding="utf-8")))
        except (ValidationError, UnicodeDecodeError) as error:
            raise UserError(f"{file} is damaged: {str(error).splitlines()[0]}.") from None

    @classmethod
    def create(cls, path: Path, info: RunInfo) -> Run:
        """Write ``run.json`` (atomically) and open the run."""
        atomic.write_text(path / "run.json", info.model_dump_json(indent=2) + "\n")
        return cls(path, info)

    def with_stage(self, stage: Stage) -> Run:
        """The run with *stage* in the place of the one of that name, or at its end; ``run.json`` is written anew."""
        names = [other.name for other in self.info.stages]
        stages = [stage if name == stage.name else other for name, other in zip(names, self.info.stages, strict=True)]
        return Run.create(self.path, self.info.model_copy(update={"stages": stages if stage.name in names else [*stages, stage]}))

    def checkpoint(self, name: str) -> Path:
        """Where the checkpoint called *name* is or will be."""
        return self.path / name

    def ready(self) -> list[Stage]:
        """The stages whose checkpoint is there, in order (a checkpoint directory appears only when whole)."""
        files = ("config.json", "adapter_config.json")
        return [stage for stage in self.info.stages if any((self.path / stage.name / file).is_file() for file in files)]

    def log(self, name: str) -> Path:
        """The JSONL log of a stage: one line per step, samples as events."""
        return self.path / "logs" / f"{name}.jsonl"

    def state(self, name: str) -> Path:
        """The folder of what resuming a stage needs."""
        return self.path / "state" / name

    def evaluations(self) -> Path:
        """The folder of evaluation results, one folder each."""
        return self.path / "eval"

    def benchmark(self) -> Path:
        """The run's own held-out tasks."""
        return self.path / "data" / "benchmark"


def find_runs(roots: Sequence[Path]) -> list[Run]:
    """The runs at or directly below *roots*, by path; damaged ones are left out."""
    found: dict[Path, Run] = {}
    for root in roots:
        for folder in [root, *sorted(root.iterdir())] if root.is_dir() else []:
            if (folder / "run.json").is_file():
                try:
                    found[folder.resolve()] = Run.open(folder)
                except UserError:
                    continue
    return list(found.values())


def run_of(checkpoint: Path) -> Run | None:
    """The run a checkpoint directory belongs to, or ``None``."""
    parent = checkpoint.resolve().parent
    return Run.open(parent) if (parent / "run.json").is_file() else None
