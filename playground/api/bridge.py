"""From the engines' threads to the event loop: what a request's samples bring, in small batches.

The loop is woken at most once per interval, for everything that all engines have written by then. Each token by itself would cost the
engine's thread a wait for the interpreter's lock.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import replace

from modelkit.generation.engine import Engine
from modelkit.generation.requests import Piece, Reply, Request, Sample
from playground.guard.content_filter import WordFilter

INTERVAL_SECONDS = 0.01

Arrived = list[tuple[int, Piece]]
"""Pieces with the number of the sample that each belongs to, in the order in which they were written."""


class Bridge:
    """One per event loop, made on it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._crossing: deque[tuple[Writing, int, Piece]] = deque()
        self._awaited = False
        self._last = float("-inf")

    def put(self, writing: Writing, number: int, piece: Piece) -> None:
        """Send a piece over, from whatever thread."""
        self._crossing.append((writing, number, piece))
        if not self._awaited:
            self._awaited = True
            with suppress(RuntimeError):  # the loop has ended, and nobody listens
                self._loop.call_soon_threadsafe(self._arrive)

    def _arrive(self) -> None:
        now = self._loop.time()
        if now - self._last < INTERVAL_SECONDS:
            self._loop.call_at(self._last + INTERVAL_SECONDS, self._arrive)
            return
        self._last, self._awaited = now, False
        while self._crossing:
            writing, number, piece = self._crossing.popleft()
            writing.take(number, piece)


class Writing:
    """What is written for one HTTP request: *n* samples of each of its prompts, numbered prompt by prompt."""

    def __init__(self, bridge: Bridge, engine: Engine, requests: Sequence[Request], words: WordFilter | None = None) -> None:
        """
        :param words: what is masked in the texts.
        :raises UserError: when a prompt leaves no room for an answer, or too many requests wait; nothing is under way then.
        """
        self._arrived: Arrived = []
        self._news = asyncio.Event()
        self.count = self._open = sum(request.n for request in requests)
        self.first: float | None = None
        """When the first token came, by the monotonic clock."""
        self._masks = [words.stream() for _ in range(self.count)] if words else None
        self.replies: list[Reply] = []
        first = 0
        try:
            for request in requests:
                deliver = _Deliver(bridge, self, first)
                self.replies.append(engine.submit(request, deliver=deliver))
                first += request.n
        except BaseException:
            self.cancel()
            raise

    def take(self, number: int, piece: Piece) -> None:
        """A piece has arrived."""
        self.first = self.first or time.monotonic()
        if self._masks:
            mask = self._masks[number]
            piece = replace(piece, text=mask.put(piece.text) + (mask.flush() if piece.finish else ""))
        self._arrived.append((number, piece))
        self._news.set()

    def cancel(self) -> None:
        """End the work before the engine's next step; without effect on what has ended."""
        for reply in self.replies:
            reply.cancel()

    @property
    def reused(self) -> int:
        """Prompt tokens that somebody had read before."""
        return sum(reply.reused for reply in self.replies)

    async def __aiter__(self) -> AsyncIterator[Arrived]:
        """Everything that has arrived since the last time, until the last sample has ended."""
        while self._open:
            await self._news.wait()
            self._news.clear()
            arrived, self._arrived = self._arrived, []
            self._open -= sum(piece.finish is not None for _, piece in arrived)
            yield arrived

    async def samples(self) -> list[Sample]:
        """All samples, finished."""
        found = [Sample() for reply in self.replies for _ in range(reply.request.n)]
        async for arrived in self:
            for number, piece in arrived:
                found[number].add(piece)
        return found


class _Deliver:
    """Takes the pieces of one prompt's samples on the engine's thread."""

    def __init__(self, bridge: Bridge, writing: Writing, first: int) -> None:
        self._bridge, self._writing, self._first = bridge, writing, first

    def __call__(self, piece: Piece) -> None:
        self._bridge.put(self._writing, self._first + piece.sample, piece)
