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


class Terminal:
    """Progress bars on standard error (only in a terminal), everything else on standard output."""

    def __init__(self, resolved: BaseModel, footing: str) -> None:
        self._console = Console()
        self._errors = Console(stderr=True)
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
        everything = resolved.model_dump(mode="json", exclude={"bars"}, exclude_none=True)
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
            self._console.print(f"{checkpoint} is there already, made in the same way", highlight=False, markup=False)
            return
        rows = f"rows {counts.rows:,} · used {counts.used:,} · bad {counts.bad:,} · dropped {counts.dropped:,} · cut {counts.truncated:,}"
        first = f" · first problem: {counts.first_problem}" if counts.first_problem else ""
        metrics = " · ".join(f"{name} {value:.4g}" for name, value in info.metrics.items())
        print(f"{rows}{first}")
        print(" · ".join(part for part in (f"{checkpoint}: {info.steps:,} steps", f"{info.seconds:,.1f} s", metrics) if part))

    def show(self, card: dict[str, Any]) -> None:
        """The report card."""
        self._console.print(Markdown(to_markdown(card)))
