"""What ``trainers run`` shows in the terminal: the resolved recipe, a progress bar per stage, the report card."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from trainers.report import to_markdown

if TYPE_CHECKING:
    from trainers.log import Progress as RunProgress
    from trainers.pipeline import Settings
    from trainers.recipe import Recipe

_SHOWN = ("loss", "accuracy", "reward", "kl")


class Terminal:
    """Progress bars on standard error (only in a terminal), everything else on standard output."""

    def __init__(self, recipe: Recipe, settings: Settings) -> None:
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
        resolved = yaml.safe_dump(
            recipe.model_dump(exclude={"bars"}, exclude_none=True), sort_keys=False, allow_unicode=True, default_flow_style=None, width=140
        )
        self._console.print(resolved.rstrip(), highlight=False, markup=False)
        self._console.print(f"out {settings.out} · seed {settings.seed} · {settings.threads} threads", highlight=False)

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

    def show(self, card: dict[str, Any]) -> None:
        """The report card."""
        self._console.print(Markdown(to_markdown(card)))
