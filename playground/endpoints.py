"""Models served elsewhere that the operator puts beside the run's own, through any OpenAI-compatible server. A visitor names none."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, TypeVar

from evalkit.models.server import Endpoint
from modelkit.chat import Message
from modelkit.errors import UserError
from playground.chat.replies import FRAME_SECONDS, Draft, Reply
from playground.chat.settings import ChatSettings

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

    from modelkit.generation.batch import Finish

PREFIX = "endpoint/"
"""What the ids of served models begin with."""
_SECONDS = 60.0
_log = logging.getLogger(__name__)
Chunk = TypeVar("Chunk")


@dataclass(frozen=True)
class Served:
    """A served model under the title that visitors see."""

    title: str
    endpoint: Endpoint

    @property
    def id(self) -> str:
        """What the page sends in its place; neither address nor model can be learnt from it."""
        return PREFIX + self.title

    @classmethod
    def parse(cls, text: str, key_env: str | None) -> Served:
        """Read ``TITLE=MODEL@URL``; the key comes from the environment variable *key_env*.

        :raises UserError: when it has another shape.
        """
        title, equals, rest = text.partition("=")
        model, at, url = rest.partition("@")
        if not (title.strip() and equals and model.strip() and at):
            raise UserError(f"{text!r} names no endpoint: write TITLE=MODEL@URL, such as Judge=qwen3@http://127.0.0.1:8000/v1.")
        return cls(title.strip(), Endpoint(url.strip(), model.strip(), key_env))

    def stream(
        self, messages: Sequence[Message], settings: ChatSettings, cancelled: Callable[[], bool]
    ) -> Iterator[tuple[Reply, list[Draft]]]:
        """The reply as it is written, at most 15 snapshots a second, with its samples so far.

        :raises UserError: when the server doesn't answer as it should; the log has its words, the visitor doesn't see them.
        """
        import openai

        drafts = [Draft() for _ in range(settings.n)]
        reply = Reply(self.id, phase="waiting", wanted=settings.n, settings=settings)
        yield reply, drafts
        lead: list[ChatCompletionMessageParam] = [{"role": "system", "content": settings.system}] if settings.system else []
        said: list[ChatCompletionMessageParam] = [
            {"role": "assistant", "content": message["content"]}
            if message["role"] == "assistant"
            else {"role": "user", "content": message["content"]}
            for message in messages
        ]

        @contextmanager
        def ask() -> Iterator[Iterable[ChatCompletionChunk]]:
            with (
                openai.OpenAI(base_url=self.endpoint.url, api_key=self.endpoint.key, timeout=_SECONDS, max_retries=1) as client,
                client.chat.completions.create(
                    model=self.endpoint.model,
                    messages=[*lead, *said],
                    temperature=settings.temperature,
                    top_p=settings.top_p,
                    max_tokens=settings.max_tokens,
                    seed=settings.seed,
                    n=settings.n,
                    stream=True,
                ) as stream,
            ):
                yield stream

        started = shown = time.perf_counter()
        try:
            for chunk in _until(cancelled, ask):
                for choice in chunk.choices:
                    if not 0 <= choice.index < len(drafts):
                        continue
                    draft = drafts[choice.index]
                    draft.written += choice.delta.content or ""
                    draft.finish = _finish(choice.finish_reason) or draft.finish
                    reply = replace(reply, tokens=reply.tokens + bool(choice.delta.content))
                now = time.perf_counter()
                drawn = sum(draft.finish is not None for draft in drafts) if settings.n > 1 else 0
                reply = replace(reply, phase="writing", seconds=now - started, drawn=drawn)
                if now - shown >= FRAME_SECONDS:
                    shown = now
                    yield (reply if settings.n > 1 else replace(reply, text=drafts[0].text)), drafts
        except openai.OpenAIError as error:
            _log.warning("the endpoint called %s failed: %s", self.title, error)
            raise UserError(f"{self.title} doesn't answer; the server's log says why.") from None
        yield reply, drafts


def _until(cancelled: Callable[[], bool], ask: Callable[[], AbstractContextManager[Iterable[Chunk]]]) -> Iterator[Chunk]:
    """What is answered, until *cancelled*. A thread listens, so that a server which is silent keeps no visitor waiting."""
    heard: SimpleQueue[Chunk | Exception | None] = SimpleQueue()
    left = threading.Event()

    def listen() -> None:
        try:
            with ask() as chunks:
                for chunk in chunks:
                    if left.is_set():
                        return
                    heard.put(chunk)
            heard.put(None)
        except Exception as error:
            heard.put(error)

    threading.Thread(target=listen, name="endpoint", daemon=True).start()
    try:
        while not cancelled():
            try:
                told = heard.get(timeout=FRAME_SECONDS)
            except Empty:
                continue
            if isinstance(told, Exception):
                raise told
            if told is None:
                return
            yield told
    finally:
        left.set()


def _finish(reason: str | None) -> Finish | None:
    if reason is None:
        return None
    return "length" if reason == "length" else "stop"
