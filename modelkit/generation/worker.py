"""The one thread that touches a loaded model: it turns the engine and runs other jobs (rewards, log-probabilities) between steps."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

from modelkit.errors import UserError

if TYPE_CHECKING:
    from modelkit.generation.engine import Engine

_log = logging.getLogger(__name__)
Result = TypeVar("Result")


class Worker:
    """A thread that begins with the first work and ends by :meth:`close`, or by itself after *idle_seconds* without any.

    :param engine: what to turn; ``None`` for a model that only scores.
    :param on_idle: called on the thread when it ends for want of work.
    """

    def __init__(
        self,
        engine: Engine | None = None,
        name: str = "model",
        idle_seconds: float | None = None,
        on_idle: Callable[[], None] = lambda: None,
    ) -> None:
        self.engine, self._name, self._idle_seconds, self._on_idle = engine, name, idle_seconds, on_idle
        self._jobs: deque[tuple[Callable[[], object], Future]] = deque()
        self._lock, self._wake = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None
        self._closing = self._aborting = False
        if engine is not None:
            engine.on_submit = self._start

    @property
    def busy(self) -> bool:
        """Whether work is under way or waits."""
        return bool(self._jobs) or (self.engine is not None and self.engine.busy)

    def run(self, job: Callable[[], Result]) -> Future[Result]:
        """Run *job* between two steps; the future has its result or its exception (a
        :class:`UserError` after :meth:`close`)."""
        future: Future[Result] = Future()
        self._jobs.append((job, future))
        self._start()
        return future

    def close(self, wait_seconds: float = 0.0) -> None:
        """Take no more work, finish what there is, end the thread. What is not done after *wait_seconds* goes on behind."""
        with self._lock:
            self._closing = True
            thread = self._thread
        self._wake.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(wait_seconds)

    def abort(self) -> None:
        """End what is under way with an error within one step, and the thread."""
        self._aborting = True
        self.close(wait_seconds=5.0)

    def _start(self) -> None:
        with self._lock:
            if self._closing and self._thread is None:
                refused = [future for _, future in self._jobs]
                self._jobs.clear()
            elif self._thread is None:
                self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                self._thread.start()
                return
            else:
                self._wake.set()
                return
        sentence = "this model has been put away or the server is stopping: ask again."
        for future in refused:
            future.set_exception(UserError(sentence))
        if self.engine is not None:
            self.engine.fail(sentence)

    def _work(self) -> None:
        last = time.monotonic()
        while True:
            self._wake.clear()
            if self._aborting:
                self._refuse()
            worked = self._run_job()
            worked = self._step() or worked
            if worked:
                last = time.monotonic()
                continue
            idle = self._idle_seconds is not None and time.monotonic() - last >= self._idle_seconds
            with self._lock:
                if not self.busy and (self._closing or idle):
                    self._thread = None
                    break
            if not self.busy:
                self._wake.wait(self._idle_seconds)
        if idle and not self._closing:
            self._on_idle()

    def _step(self) -> bool:
        if self.engine is None:
            return False
        try:
            return self.engine.step()
        except Exception:
            _log.exception("the engine of %s failed; what was under way ends", self._name)
            self.engine.fail("the engine failed")
            return True

    def _run_job(self) -> bool:
        if not self._jobs:
            return False
        job, future = self._jobs.popleft()
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(job())
            except BaseException as error:
                future.set_exception(error)
        return True

    def _refuse(self) -> None:
        while self._jobs:
            self._jobs.popleft()[1].set_exception(UserError("the server is stopping: ask again."))
        if self.engine is not None:
            self.engine.fail("the server is stopping")
