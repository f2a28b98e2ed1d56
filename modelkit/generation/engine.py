"""Requests in, text out: everyone's requests to one model in one batch, with text, stop strings, cancelling, deadlines and errors.

It has no thread of its own. :class:`~modelkit.generation.worker.Worker` turns it from one; where there is none (``inline``: a
process that may not keep threads, a script, a test), readers turn it by reading.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelkit.errors import UserError
from modelkit.generation.batch import Batch
from modelkit.generation.memory import cache_budget, out_of_memory
from modelkit.generation.prefixes import PrefixStore
from modelkit.generation.requests import Piece, Reply, Request
from modelkit.generation.sequences import Finish, Tally, Token
from modelkit.generation.stream import LONGEST_CHARACTER, TextStream

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_log = logging.getLogger(__name__)


class Busy(UserError):
    """Too many requests wait already."""


@dataclass(frozen=True)
class Limits:
    """What one engine may take up. See :class:`~modelkit.generation.batch.Batch`; ``queue`` bounds the requests that wait.

    Without ``cache_bytes``, keys and values may take a quarter of the memory that is free when the engine is made.
    """

    rows: int = 32
    chunk: int = 128
    burst: int = 512
    cache_bytes: int | None = None
    prefix_bytes: int = 256 << 20
    queue: int = 1024


@dataclass
class _Sample:
    stream: TextStream
    open: bool = True


class Engine:
    """The requests to one model. :meth:`submit` may be called from any thread."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, limits: Limits = Limits(), inline: bool = True) -> None:
        self.tokenizer = tokenizer
        self._limits, self._inline = limits, inline
        store = PrefixStore(limits.prefix_bytes)
        budget = cache_budget(model.device) if limits.cache_bytes is None else limits.cache_bytes
        self._batch = Batch(model, limits.rows, limits.chunk, limits.burst, store, budget)
        self._inbox: deque[Reply] = deque()
        self._live: dict[int, tuple[Reply, list[_Sample]]] = {}
        self._turning = threading.Lock()
        self.on_submit: Callable[[], None] = lambda: None

    @property
    def tally(self) -> Tally:
        """Tokens, forward passes and seconds so far."""
        return self._batch.tally

    @property
    def context(self) -> int | None:
        """The longest sequence, prompt and reply, in tokens: what the model reads or, if that is less, what its memory here holds."""
        return self._batch.room()

    @property
    def busy(self) -> bool:
        """Whether anything is under way."""
        return bool(self._inbox or self._live)

    @property
    def load(self) -> tuple[int, int]:
        """Samples that are being written, and requests that wait."""
        return self._batch.live, self._batch.waiting + len(self._inbox)

    @property
    def bytes(self) -> int:
        """What keys and values take at present, beside the model's weights."""
        return self._batch.bytes

    def submit(
        self,
        request: Request,
        cancelled: Callable[[], bool] = lambda: False,
        deliver: Callable[[Piece], None] | None = None,
    ) -> Reply:
        """Queue a request, which joins the batch at the next step.

        :param cancelled: asked before every step; once true, the work ends.
        :param deliver: takes each piece, on the thread that does the work, in place of the reply's own queue.
        :raises Busy: when too many requests wait.
        :raises UserError: when the prompt leaves no room for an answer, or *n* is more than can be written at a time.
        """
        if len(self._inbox) + self._batch.waiting >= self._limits.queue:
            raise Busy(f"{self._limits.queue} requests are waiting already: try again later.")
        self._batch.check(request.prompt, request.n)
        reply = Reply(request, cancelled, self.step if self._inline else None, deliver)
        self._inbox.append(reply)
        self.on_submit()
        return reply

    def step(self) -> bool:
        """One round: let go of what is cancelled or too late, take in what has come, draw a token for each row.

        :returns: whether there was anything to do.
        """
        with self._turning:
            while self._inbox:
                reply = self._inbox.popleft()
                asked = reply.request
                key = self._batch.add(asked.prompt, asked.sampling, asked.stop, asked.n, asked.top)
                before = asked.prompt[-LONGEST_CHARACTER:] if asked.goes_on else ()
                self._live[key] = reply, [_Sample(TextStream(self.tokenizer, asked.stop_strings, before)) for _ in range(asked.n)]
            self._release()
            if not self._live:
                self._batch.rest()
                return False
            for token in self._draw():
                self._deliver(token)
            return True

    def fail(self, sentence: str) -> None:
        """End everything that is under way or waits, with an error."""
        with self._turning:
            while self._inbox:
                reply = self._inbox.popleft()
                for sample in range(reply.request.n):
                    reply.deliver(Piece(sample, finish="error", error=f"{sentence} (request {reply.id})"))
            for key in list(self._live):
                self._end(key, "error", sentence)

    def _release(self) -> None:
        now = time.monotonic()
        for key, (reply, _) in list(self._live.items()):
            if reply.cancelled:
                self._end(key, "cancelled")
            elif reply.deadline is not None and now > reply.deadline:
                self._end(key, "deadline")

    def _draw(self) -> list[Token]:
        """A step of the batch. Where memory runs out, kept prefixes go first, then the newest request; the others go on."""
        while self._live:
            try:
                return self._batch.step()
            except Exception as error:
                if out_of_memory(error):
                    if not self._batch.forget():
                        self._end(
                            self._batch.newest() or max(self._live),
                            "error",
                            "there was not enough memory for this request beside the others: ask for less, or later",
                        )
                        self._batch.rest()
                    continue
                _log.exception("a generation step failed; requests %s end", ", ".join(reply.id for reply, _ in self._live.values()))
                for key in list(self._live):
                    self._end(key, "error", "the model failed while writing")
        return []

    def _deliver(self, token: Token) -> None:
        reply, samples = self._live[token.key]
        sample = samples[token.sample]
        reply.reused = token.reused
        finish = token.finish
        text = "" if finish == "stop" else sample.stream.put(token.id)
        if sample.stream.finished and finish != "stop":
            if finish is None:
                self._batch.drop(token.key, token.sample)
            finish = "stop"
        if finish:
            text += sample.stream.flush()
            sample.open = False
            if not any(other.open for other in samples):
                del self._live[token.key]
        reply.deliver(Piece(token.sample, text, token.id, token.logprob, token.top, finish))

    def _end(self, key: int, finish: Finish, error: str | None = None) -> None:
        reply, samples = self._live.pop(key)
        self._batch.drop(key, keep=error is None)
        for number, sample in enumerate(samples):
            if sample.open:
                said = f"{error} (request {reply.id})" if error else None
                reply.deliver(Piece(number, sample.stream.flush(), finish=finish, error=said))
