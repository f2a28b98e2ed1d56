"""A worker without a thread, for processes that may not keep one: jobs run at once, on the thread that asks for them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from modelkit.generation.worker import Worker

Result = TypeVar("Result")


class InlineWorker(Worker):
    """Goes with an engine that is ``inline``, whose readers turn it by reading. It is never idle, and closing it ends nothing."""

    def run(self, job: Callable[[], Result]) -> Future[Result]:
        """Run *job* now; the future that comes back has its result or its exception."""
        future: Future[Result] = Future()
        try:
            future.set_result(job())
        except Exception as error:
            future.set_exception(error)
        return future

    def _start(self) -> None:
        """There is no thread to start."""
