"""A ZeroGPU Space: the page's process has no GPU, and borrows one by the call, in a process forked for it.

Neither threads nor locks nor a visitor's "stop" get across, and arguments and results are pickled. So a call names a function of this
package and gives it plain values; the models, which every fork inherits, are found here; engines run without threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from modelkit.chat import Message
from modelkit.errors import UserError
from playground.chat.replies import Reply, stream_reply
from playground.chat.settings import ChatSettings
from playground.hosting.host import Host
from playground.models import Models

try:
    import spaces
except ImportError:
    spaces = None

HERE = spaces is not None and Host.here().zero_gpu
_SECONDS = 60
"""The longest that a call may keep the GPU; those who ask for less wait less."""

Result = TypeVar("Result")
Function = TypeVar("Function", bound=Callable[..., Any])
_models: Models | None = None


@dataclass(frozen=True)
class _Failed:
    """A sentence for the visitor, as a value: an exception's text doesn't always get across."""

    sentence: str


def _borrowing(function: Function) -> Function:
    """*function*, run where the GPU is."""
    borrowed: Function = spaces.GPU(duration=_SECONDS)(function) if HERE else function
    return borrowed


@_borrowing
def _call(job: Callable[..., Any], *told: Any) -> Any:
    try:
        return job(_models, *told)
    except UserError as error:
        return _Failed(str(error))


@_borrowing
def _stream(checkpoint: str, messages: list[Message], settings: ChatSettings) -> Generator[Reply, None, None]:
    assert _models is not None
    yield from stream_reply(_models, checkpoint, messages, settings, lambda: False)


class ZeroGpu:
    """Computes with *models*, which must be ``inline``, where the GPU is. One for a process.

    What is there at the start is loaded for all forks; a checkpoint that is written later is loaded by each call that needs it.
    """

    def __init__(self, models: Models) -> None:
        """:raises UserError: when a checkpoint can't be loaded."""
        global _models
        _models = models
        os.register_at_fork(after_in_child=models.renew_locks)
        models.load_all()

    def call(self, job: Callable[..., Result], *told: Any) -> Result:
        """``job(models, *told)``, of a module's own function and values that can be pickled.

        :raises UserError: when *job* does.
        """
        found: Result | _Failed = _call(job, *told)
        if isinstance(found, _Failed):
            raise UserError(found.sentence)
        return found

    def stream(
        self, models: Models, checkpoint: str, messages: Sequence[Message], settings: ChatSettings, cancelled: Callable[[], bool]
    ) -> Iterator[Reply]:
        """What :func:`playground.chat.replies.stream_reply` gives. Once *cancelled*, no more of it is waited for."""
        yield Reply(checkpoint, phase="loading", settings=settings)
        for reply in _stream(checkpoint, list(messages), settings):
            if cancelled() and reply.phase != "done":
                yield replace(reply, phase="done", finish="cancelled")
                return
            yield reply
