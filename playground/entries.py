"""What can be talked to: a checkpoint under the name that visitors know it by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from modelkit import checkpoint
from modelkit.adapter import is_adapter
from modelkit.chat import has_template
from modelkit.errors import UserError
from modelkit.run import Run, StageKind, run_of


@dataclass(frozen=True)
class Entry:
    """A checkpoint that is ready. ``id`` (``run/stage``, or the directory's name) is all that a visitor ever sends.

    ``run`` is ``None`` for a checkpoint that belongs to none. A copy (in 4 bits, say) never stands for its kind.
    """

    id: str
    path: Path
    kind: StageKind
    titles: dict[str, str]
    run: Run | None = None
    several_runs: bool = False
    is_copy: bool = False

    def title(self, language: str) -> str:
        """The stage's name in a language, with the run's name where there are several."""
        title = self.titles.get(language) or self.titles.get("en") or self.path.name
        return f"{self.run.info.name} · {title}" if self.several_runs and self.run else title


def named(checkpoints: Sequence[Path]) -> list[Entry]:
    """Checkpoints named one by one: as a stage where they belong to a run, else by the directory's name.

    :raises UserError: when one isn't whole, or two would have the same name.
    """
    found = []
    for given in checkpoints:
        checkpoint.check(given)
        path = given.resolve()
        run = run_of(path)
        stage = next((stage for stage in run.ready() if stage.name == path.name), None) if run else None
        if run and stage:
            found.append(Entry(f"{run.path.name}/{stage.name}", path, stage.kind, stage.title, run))
        else:
            kind: StageKind = "reward" if checkpoint.is_reward_model(path) else "sft" if has_template(path) else "base"
            found.append(Entry(path.name, path, kind, {}))
    twice = {id for id, times in Counter(entry.id for entry in found).items() if times > 1}
    found = [replace(entry, id=f"{entry.path.parent.name}/{entry.path.name}") if entry.id in twice else entry for entry in found]
    if len({entry.id for entry in found}) < len(found):
        raise UserError(f"two checkpoints would both be called {min(twice)}: rename one of the directories.")
    return found


def is_there(path: Path) -> bool:
    """Whether a directory still holds a checkpoint."""
    return (path / "config.json").is_file() or is_adapter(path)


def written(path: Path) -> int:
    """When a checkpoint was written, in nanoseconds: a newer one under the same name is another model.

    :raises UserError: when it is gone.
    """
    try:
        return (path / ("adapter_config.json" if is_adapter(path) else "config.json")).stat().st_mtime_ns
    except FileNotFoundError:
        raise UserError(f"{path.name} is gone from the disk: choose another checkpoint.") from None
