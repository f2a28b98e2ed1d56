"""What the routes share: the models, the limits, the counters, and the way from a wish to what a model writes."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import Request
from starlette.concurrency import run_in_threadpool

from modelkit.chat import stop_ids
from modelkit.errors import ModelError, UserError
from modelkit.generation.engine import Busy, out_of_memory
from modelkit.generation.requests import Request as Prompt
from modelkit.generation.requests import Sample
from modelkit.generation.worker import Worker
from playground.api.bridge import Bridge, Writing
from playground.api.gate import Gate
from playground.api.limits import Limits
from playground.api.meters import Meters
from playground.api.refusals import Refused
from playground.api.wishes import Drawn
from playground.entries import Entry
from playground.guard.content_filter import WordFilter
from playground.guard.credentials import OPEN, Credentials
from playground.models import Loaded, LoadedReward, Models

Result = TypeVar("Result")
BUSY_SECONDS = 2.0
"""When a request that failed for want of memory, or while its model was put away, is worth another try."""


@dataclass
class Record:
    """What is known of one HTTP request, for its log line and the metrics. ``first`` is when its first token came."""

    id: str
    started: float = field(default_factory=time.monotonic)
    model: str = ""
    read: int = 0
    reused: int = 0
    written: int = 0
    first: float | None = None

    def note(self, writing: Writing, tokens: int) -> None:
        """So many tokens more have been written."""
        self.written += tokens
        self.reused, self.first = writing.reused, writing.first


def record_of(request: Request) -> Record:
    """What is known of a request."""
    record: Record = request.state.record
    return record


@dataclass
class Service:
    """One server's state."""

    models: Models
    limits: Limits = field(default_factory=Limits)
    credentials: Credentials = OPEN
    words: WordFilter | None = None

    def __post_init__(self) -> None:
        self.gate, self.meters = Gate(self.limits), Meters()
        self._loads: dict[str, asyncio.Task[Any]] = {}

    @cached_property
    def bridge(self) -> Bridge:
        """Made by the first request, on the loop that serves."""
        return Bridge()

    @cached_property
    def _loaders(self) -> CapacityLimiter:
        """Threads for loading alone, one for each model that is asked for: those of other work are few."""
        return CapacityLimiter(math.inf)

    async def writer(self, name: str, record: Record) -> Loaded:
        """The language model that *name* means, loaded.

        :raises Refused: when it isn't offered, is gone from the disk, can't be loaded, or writes nothing.
        """
        entry = await self._entry(name, record)
        if entry.kind == "reward":
            raise Refused(422, f"{name} is a reward model and writes nothing: ask it at /v1/score", param="model")
        return await self._loaded(self.models.language, entry)

    async def judge(self, name: str, record: Record) -> LoadedReward:
        """The reward model that *name* means, loaded.

        :raises Refused: when it isn't offered, is gone from the disk, can't be loaded, or is none.
        """
        entry = await self._entry(name, record)
        if entry.kind != "reward":
            judges = [other.id for other in self.models.catalogue() if other.kind == "reward"]
            offered = f"use {', '.join(judges)}" if judges else "none is served here"
            raise Refused(422, f"{name} is no reward model: {offered}", param="model")
        loaded = await self._loaded(self.models.reward, entry)
        assert loaded is not None
        return loaded

    async def _entry(self, name: str, record: Record) -> Entry:
        try:
            entry = await run_in_threadpool(self.models.entry, name)
        except UserError:
            offered = ", ".join(entry.id for entry in self.models.catalogue()) or "none"
            raise Refused(404, f"there is no model {name!r} here; those served are: {offered}", "model_not_found", "model") from None
        record.model = entry.id
        return entry

    async def _loaded(self, load: Callable[[Entry], Result], entry: Entry) -> Result:
        """What *load* makes of *entry*, in one thread for however many requests wait for it."""
        task = self._loads.get(entry.id)
        if task is None:
            task = self._loads[entry.id] = asyncio.ensure_future(to_thread.run_sync(load, entry, limiter=self._loaders))
            task.add_done_callback(lambda _: self._loads.pop(entry.id))
        try:
            return await asyncio.shield(task)
        except ModelError as error:
            raise Refused(503, str(error), "model_not_loadable", "model") from None
        except UserError as error:
            raise Refused(404, str(error), "model_not_found", "model") from None

    def write(
        self, loaded: Loaded, prompts: Sequence[Sequence[int]], wish: Drawn, tokens: int, top: int, goes_on: bool, record: Record
    ) -> Writing:
        """Begin to write *wish.n* samples of up to *tokens* tokens after each prompt; those of prompt *i* draw from ``seed + i·n`` on.

        :param top: how many of the likeliest tokens to tell.
        :param goes_on: whether the text continues the prompt's, rather than beginning a turn of its own.
        :raises Refused: when a prompt is too long, *n* too large, or too many requests wait.
        """
        self.check_prompts(loaded, prompts, room=1)
        stop, sampling = stop_ids(loaded.tokenizer, loaded.model), wish.sampling(tokens)
        asked = [
            Prompt(ids, replace(sampling, seed=wish.seed + i * wish.n), stop, wish.stop, wish.n, top, goes_on=goes_on, id=record.id)
            for i, ids in enumerate(prompts)
        ]
        try:
            return Writing(self.bridge, loaded.engine, asked, self.words)
        except Busy as error:
            raise Refused(429, str(error), "too_many_requests", retry_after=BUSY_SECONDS) from None
        except UserError as error:
            raise Refused(422, str(error)) from None

    def check_words(self, texts: Sequence[str], tells: bool) -> None:
        """:raises Refused: when a text has words that the operator doesn't allow, or tokens are to be told that ought to be masked."""
        if self.words is None:
            return
        if tells:
            raise Refused(422, "log-probabilities would tell words that are masked here: leave logprobs out", param="logprobs")
        if not all(map(self.words.allows, texts)):
            raise Refused(400, "this text has words that the operator doesn't allow here: say it otherwise", "content_filter")

    @staticmethod
    def check_prompts(loaded: Loaded, prompts: Sequence[Sequence[int]], room: int) -> None:
        """:raises Refused: for a prompt that is empty, too long to leave *room*, or has ids that are no tokens of the model."""
        context, size = loaded.engine.context, loaded.model.config.get_text_config().vocab_size
        for ids in prompts:
            if not ids:
                raise Refused(422, "prompt: it has no tokens", param="prompt")
            if min(ids) < 0 or max(ids) >= size:
                raise Refused(422, f"prompt: token ids lie between 0 and {size - 1}", param="prompt")
            if context is not None and len(ids) + room > context:
                raise Refused(
                    400,
                    f"the prompt has {len(ids)} tokens, which leaves no room in this model's context length of {context}: shorten it",
                    "context_length_exceeded",
                    "prompt",
                )

    async def samples(self, request: Request, writing: Writing, record: Record) -> list[Sample]:
        """Everything that is written, once it is; it ends before the engine's next step when the client goes away."""
        try:
            samples = await _unless_gone(request, writing.samples())
        finally:
            writing.cancel()
        record.note(writing, sum(len(sample.ids) for sample in samples))
        return samples

    async def on_thread(self, request: Request, worker: Worker, job: Callable[[Callable[[], None]], Result]) -> Result:
        """What *job* comes to on a model's own thread.

        :param job: is given a function to call between its parts, which ends it there once the client has gone.
        :raises Refused: when memory doesn't suffice, or the model is being put away.
        """
        over = threading.Event()

        def between() -> None:
            if over.is_set():
                raise _Unwanted

        try:
            return await _unless_gone(request, asyncio.wrap_future(worker.run(lambda: job(between))))
        except UserError as error:
            raise Refused(503, str(error), "model_not_loadable", retry_after=BUSY_SECONDS) from None
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            said = "there was not enough memory for this request: ask for less at a time, or later"
            raise Refused(503, said, "out_of_memory", retry_after=BUSY_SECONDS) from None
        finally:
            over.set()


class _Unwanted(Exception):
    """Nobody waits for the result any more."""


async def _unless_gone(request: Request, work: Awaitable[Result]) -> Result:
    """What *work* comes to.

    :raises Refused: when the client goes away meanwhile, which cancels *work*.
    """
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Refused(499, "the client has gone")
        return task.result()
    finally:
        for one in (task, gone):
            one.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await one


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
