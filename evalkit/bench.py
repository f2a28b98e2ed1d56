"""The workbench of an evaluation: the loaded checkpoint, its settings, a progress bar and a counter of tokens."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from evalkit.encoding import Encoder

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Watch = Callable[[str, int], Callable[[int], None]]


def _unwatched(label: str, total: int) -> Callable[[int], None]:
    return lambda done: None


@dataclass
class Bench:
    """What a method works with. ``watch(label, total)`` opens a progress bar and returns what moves it."""

    checkpoint: Path
    fingerprint: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    device: torch.device
    dtype: torch.dtype
    chat: bool = False
    seed: int = 0
    watch: Watch = _unwatched
    tokens_computed: int = field(default=0)

    @property
    def context(self) -> int | None:
        """The longest sequence the model reads, in tokens; ``None`` when its configuration doesn't say."""
        return getattr(self.model.config, "max_position_embeddings", None)

    def encoder(self) -> Encoder:
        """The encoder of multiple-choice prompts."""
        return Encoder(self.tokenizer, self.chat)


@contextmanager
def progress() -> Iterator[Watch]:
    """Progress bars with rate and time left on standard error; silent where that is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bars:

        def watch(label: str, total: int) -> Callable[[int], None]:
            bar = bars.add_task(label, total=total)
            return lambda done: bars.update(bar, completed=done)

        yield watch
