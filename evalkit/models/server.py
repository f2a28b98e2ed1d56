"""Requests to an OpenAI-compatible server: the client, many at a time, and when to give up on all of them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from evalkit.models.retry import Failed, Patience
from evalkit.models.wire import Completion, Models, Read, read
from modelkit.errors import EndpointError, UserError

if TYPE_CHECKING:
    import openai

A = TypeVar("A")
T = TypeVar("T")
R = TypeVar("R", bound=Read)
_STREAK = 8
_REMEDIES = {
    401: "put a valid one into the environment variable {key} (or name another one with --api-key-env)",
    403: "use a key that may",
    404: "check the address and the model's name",
    405: "check the address and the model's name",
    429: "use another key",
}


@dataclass(frozen=True)
class Endpoint:
    """Where a model is served. The key is read from the environment variable *key_env*, and kept nowhere.

    :param tokenizer: folder of the model's tokenizer; with it prompts are made to fit before they are sent.
    :param patience: seconds for which one request is tried.
    :raises UserError: for an address that is none, or that holds a password.
    """

    url: str
    model: str
    key_env: str | None = None
    concurrency: int = 8
    tokenizer: Path | None = None
    patience: float = 300.0

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError(f"{self.url!r} is no endpoint: give its address, such as http://127.0.0.1:8000/v1.")
        if parts.username or parts.password or parts.query:
            raise UserError(
                "--endpoint holds more than an address: put the key into an environment variable and name that with --api-key-env."
            )
        if self.key_env and not os.environ.get(self.key_env):
            raise UserError(f"the environment variable {self.key_env} is empty: put the endpoint's key into it.")

    @property
    def key(self) -> str:
        """The key, or a word that stands for none."""
        return os.environ.get(self.key_env or "OPENAI_API_KEY") or "none"


@dataclass
class Server:
    """An endpoint that can be asked. Token counts are the server's own; ``tokens_reused`` came out of its cache."""

    endpoint: Endpoint
    patience: Patience
    tokens_computed: int = 0
    tokens_reused: int = 0
    _client: openai.AsyncOpenAI | None = field(default=None, repr=False)

    async def models(self) -> list[dict[str, Any]]:
        """What the server lists, entry by entry.

        :raises Failed: when the request is given up.
        """
        return (await self.patience.ask(lambda: self._request(Models, "GET", "/models"))).data

    async def complete(self, path: str, body: dict[str, Any], patience: Patience | None = None) -> Completion:
        """The answer to one request.

        :raises Failed: when it is given up.
        """
        body = {"model": self.endpoint.model, **body}
        answer = await (patience or self.patience).ask(lambda: self._request(Completion, "POST", path, body))
        if answer.usage:
            self.tokens_computed += answer.usage.prompt_tokens + answer.usage.completion_tokens - answer.usage.cached
            self.tokens_reused += answer.usage.cached
        return answer

    async def each(
        self,
        groups: Sequence[list[int]],
        ask: Callable[[list[int]], Awaitable[list[A]]],
        on_batch: Callable[[list[int], list[A]], None],
        unanswered: Callable[[Failed], A],
    ) -> None:
        """Ask about every group of places, ``concurrency`` groups at a time, and hand answers over as they come, in any order.

        A group whose request was given up gets ``unanswered(failure)`` at the end, when all others have their answers. What is
        finished when the work is interrupted is still handed over.

        :raises EndpointError: when nothing more can be asked, or the last eight groups (or all) failed in the same way. What was
            given up is not handed over then: it is asked again next time.
        """
        waiting = iter(groups)
        running: dict[asyncio.Task[list[A] | Failed], list[int]] = {}
        given_up: list[tuple[list[int], Failed]] = []
        streak: list[Failed] = []

        async def attempt(group: list[int]) -> list[A] | Failed:
            try:
                return await ask(group)
            except Failed as failure:
                return failure

        def settle(finished: Iterable[asyncio.Task[list[A] | Failed]]) -> None:
            places: list[int] = []
            answers: list[A] = []
            for task in finished:
                group, result = running.pop(task), task.result()
                if isinstance(result, Failed):
                    given_up.append((group, result))
                    streak[:] = [result] if _differ([*streak[-1:], result]) else [*streak, result]
                else:
                    places += group
                    answers += result
                    streak.clear()
            if places:
                on_batch(places, answers)

        async with self.connected():
            try:
                while True:
                    for group in islice(waiting, self.endpoint.concurrency - len(running)):
                        running[asyncio.ensure_future(attempt(group))] = group
                    if not running:
                        break
                    settle((await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED))[0])
                    if hopeless := next((failure for _, failure in given_up if failure.scope == "everything"), None):
                        raise self.hopeless(hopeless)
                    if len(streak) >= _STREAK and streak[-1].scope == "server":
                        raise self.hopeless(streak[-1], f"the last {len(streak)} requests")
            finally:
                settle([task for task in running if task.done() and not task.cancelled() and task.exception() is None])
                for task in running:
                    task.cancel()
                await asyncio.gather(*running, return_exceptions=True)
        failures = [failure for _, failure in given_up]
        if len(groups) > 1 and len(failures) == len(groups) and failures[0].scope == "server" and not _differ(failures):
            raise self.hopeless(failures[0], f"all {len(groups)} requests")
        for group, failure in given_up:
            on_batch(group, [unanswered(failure)] * len(group))

    def hopeless(self, failure: Failed, what: str = "") -> EndpointError:
        """The sentence that ends the work."""
        remedy = _REMEDIES.get(failure.status or 0, "look at the server's log, and give the same command again to go on")
        said = f" ({failure.detail})" if failure.detail else ""
        subject = f"{self.endpoint.url}: {what + ' failed: ' if what else ''}"
        return EndpointError(f"{subject}{failure.reason}{said}: {remedy.format(key=self.endpoint.key_env or 'OPENAI_API_KEY')}.")

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Keep one client's connections open for the requests of a block; they belong to its event loop."""
        import openai

        async with openai.AsyncOpenAI(
            base_url=self.endpoint.url, api_key=self.endpoint.key, max_retries=0, timeout=self.patience.once
        ) as self._client:
            yield
        self._client = None

    async def _request(self, kind: type[R], method: str, path: str, body: dict[str, Any] | None = None) -> R:
        assert self._client is not None, "requests are made within connected()"
        send = self._client.get(path, cast_to=str) if method == "GET" else self._client.post(path, body=body, cast_to=str)
        return read(kind, await send)


def finished(work: Coroutine[Any, Any, T]) -> T:
    """Do *work* to its end, in a thread of its own where an event loop is at work already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as beside:
        return beside.submit(asyncio.run, work).result()


def _differ(failures: Sequence[Failed]) -> bool:
    return len({failure.reason for failure in failures}) > 1
