"""The workbench of an evaluation: the loaded model and what every method must know of the settings."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from evalkit.encoding import Encoder
from evalkit.models.endpoint import EndpointModel
from evalkit.models.local_face import LocalFace
from modelkit.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from evalkit.models.face import Face
    from evalkit.models.local import LocalModel

Watch = Callable[[str, int, int], Callable[[int], None]]


@dataclass
class Bench:
    """What a method works with. ``checkpoint`` names the model; it is a directory where no endpoint serves it."""

    checkpoint: Path
    fingerprint: str
    loaded: LocalModel | EndpointModel
    chat: bool = False
    seed: int = 0

    @cached_property
    def face(self) -> Face:
        """The model, asked in texts."""
        if isinstance(self.loaded, EndpointModel):
            return self.loaded
        return LocalFace(self.loaded, Encoder(self.loaded.tokenizer, self.chat))

    @property
    def model(self) -> LocalModel:
        """The model, asked in token ids.

        :raises UserError: when an endpoint serves it.
        """
        if isinstance(self.loaded, EndpointModel):
            raise UserError("this task needs a model's weights, and an endpoint only answers: give a checkpoint's directory with -m.")
        return self.loaded

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer."""
        return self.model.tokenizer


@contextmanager
def progress() -> Iterator[Watch]:
    """One bar per task, with rate and time left, on standard error; silent where that is no terminal.

    ``watch(label, total, done)`` opens a bar and returns what moves it by a number of items.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(TextColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:,.1f}/s" if task.speed else "")

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(""), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bars:

        def watch(label: str, total: int, done: int) -> Callable[[int], None]:
            bar = bars.add_task(label, total=total, completed=done)
            return lambda items: bars.advance(bar, items)

        yield watch
