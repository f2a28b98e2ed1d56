"""What training shows in the terminal: the resolved settings, a progress bar per stage, what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from trainers.report import to_markdown

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import BaseModel

    from modelkit.checkpoint import StageInfo
    from trainers.data.dataset import Counts
    from trainers.log import Progress as RunProgress

_SHOWN = ("loss", "accuracy", "reward", "kl")
_NEXT = {
    "base": "trainers sft -m {checkpoint} --data CONVERSATIONS --out {run} --set steps=…",
    "sft": "trainers rm -m {checkpoint} --data PAIRS --out {run} --set steps=…",
    "rm": "trainers doctor rm -m {checkpoint}",
}
"""What one does with a stage's checkpoint; a policy is talked to."""
_TALK = "playground chat -m {checkpoint}"


class Terminal:
    """Progress bars on standard error (only in a terminal), everything else on standard output; of several ranks the first speaks."""

    def __init__(self, resolved: BaseModel, footing: str, rank: int = 0) -> None:
        self._console = Console()
        self._errors = Console(stderr=True, quiet=rank > 0)
        self._bars = Progress(
            TextColumn("{task.description:>10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[numbers]}"),
            console=self._errors,
            disable=not self._errors.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        everything = resolved.model_dump(mode="json", exclude={"bars"})
        text = yaml.safe_dump(everything, sort_keys=False, allow_unicode=True, default_flow_style=None, width=140)
        print(text.rstrip())
        print(footing, flush=True)

    def __enter__(self) -> Terminal:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def watch(self, progress: RunProgress) -> None:
        """Follow the run."""
        if progress.stage not in self._tasks:
            self._tasks[progress.stage] = self._bars.add_task(progress.stage, total=progress.steps, numbers="")
            if self._bars.disable:
                self.say(f"{progress.stage} …")
        numbers = " ".join(f"{name} {progress.numbers[name]:.3f}" for name in _SHOWN if name in progress.numbers)
        self._bars.update(self._tasks[progress.stage], completed=progress.step, total=progress.steps, numbers=numbers)

    def say(self, text: str) -> None:
        """One line."""
        self._errors.print(text, highlight=False, markup=False)

    def made(self, info: StageInfo, counts: Counts | None, checkpoint: Path) -> None:
        """What a single stage ended with, and what became of its rows."""
        if counts is None:
            print(f"{checkpoint} is there already, made in the same way")
        else:
            print(describe(counts))
            metrics = [f"{name} {value:.4g}" for name, value in info.metrics.items()]
            print(" · ".join([f"{info.steps:,} steps", f"{info.tokens:,} tokens", f"{info.seconds:,.1f} s", *metrics]))
            print(f"made {checkpoint}")
        print(f"next: {_NEXT.get(info.stage, _TALK).format(checkpoint=checkpoint, run=checkpoint.parent)}")

    def show(self, card: dict[str, Any], run: Path) -> None:
        """The report card, and where the run is."""
        self._console.print(Markdown(to_markdown(card)))
        print(f"made {run}\nnext: playground page --runs {run}")


def describe(counts: Counts) -> str:
    """What became of a stage's rows, in a line or two."""
    text = f"rows {counts.rows:,} · used {counts.used:,} · bad {counts.bad:,} · dropped {counts.dropped:,} · cut {counts.truncated:,}"
    if counts.divided:
        text += f" · learnt turn by turn {counts.divided:,}"
    if counts.first_problem:
        text += f"\nbad rows were put aside in bad_rows.jsonl, the first: {counts.first_problem}"
    return text
