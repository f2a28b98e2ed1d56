"""Asking a server again: which failures deserve another try and when, which are one question's, and which everybody's."""

from __future__ import annotations

import asyncio
import email.utils
import random
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Literal, TypeVar

from modelkit.errors import UserError

if TYPE_CHECKING:
    import openai

T = TypeVar("T")
Scope = Literal["question", "server", "everything"]
_TOO_LONG = re.compile(
    r"context.{0,3}(length|size|window)|maximum.{0,20}(length|tokens)|too (long|many tokens)|max_model_len", re.IGNORECASE
)
_FILTERED = re.compile(r"content.?(filter|policy|management)", re.IGNORECASE)


class Garbled(Exception):
    """A reply of status 200 that doesn't say what it should."""


class Failed(Exception):
    """A request that was given up.

    :param scope: whom the *reason* concerns: this question alone, the server at this moment, or everything that could be asked.
    :param status: of HTTP; ``None`` when there was no reply, or one of status 200 that makes no sense.
    :param detail: the server's own words, where it said any, and how often it was asked.
    """

    def __init__(self, reason: str, scope: Scope, status: int | None = None, detail: str = "") -> None:
        super().__init__(reason)
        self.reason, self.scope, self.status, self.detail = reason, scope, status, detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


@dataclass(frozen=True)
class Verdict:
    """What a failure means: at most *tries* in all, the next one not before *wait* seconds if the server asks for that."""

    reason: str
    scope: Scope
    tries: float = 1
    wait: float | None = None
    detail: str = ""


def verdict(error: Exception) -> Verdict:
    """Sort a failure of the ``openai`` client (or our own time-out, or a garbled reply) into its class.

    429 and 5xx are tried again, when the server says if it says so; so are time-outs, lost connections and, twice, garbled replies.
    A wrong key, a wrong path or model and a spent quota concern everything; a prompt that is too long or filtered, one question.
    """
    import openai

    if isinstance(error, asyncio.TimeoutError | openai.APITimeoutError):
        return Verdict("the server did not answer in time", "server", tries=inf)
    if isinstance(error, Garbled):
        return Verdict(f"the server's reply makes no sense: {error}", "server", tries=3)
    if not isinstance(error, openai.APIStatusError):
        cause = error.__cause__ or error
        return Verdict("the connection to the server failed", "server", tries=inf, detail=f"{type(cause).__name__}: {cause}"[:200])
    status, said = error.status_code, _said(error)
    if status == 429 and error.code != "insufficient_quota":
        return Verdict("the server's rate limit (429)", "server", tries=inf, wait=_retry_after(error), detail=said)
    if status in (408, 409) or status >= 500:
        return Verdict(f"the server failed ({status})", "server", tries=inf, wait=_retry_after(error), detail=said)
    if status in (401, 403, 404, 405, 429):
        return Verdict(f"{_REFUSALS[status]} ({status})", "everything", detail=said)
    if _TOO_LONG.search(said) or error.code == "context_length_exceeded" or status == 413:
        return Verdict(f"longer than the server's context ({status})", "question", detail=said)
    if _FILTERED.search(said) or _FILTERED.search(error.code or ""):
        return Verdict(f"the server's content filter ({status})", "question", detail=said)
    return Verdict(f"the server refused the request ({status})", "server", detail=said)


@dataclass
class Patience:
    """How long one request is tried: *total* seconds in all, *once* per try, with exponential waits from *first* to *longest*.

    When the server asks one request to wait, all that share this object do.
    """

    total: float = 300.0
    once: float = 120.0
    first: float = 0.5
    longest: float = 30.0
    _not_before: float = 0.0

    def __post_init__(self) -> None:
        if not self.total > 0:
            raise UserError(f"--patience is {self.total}: a number of seconds above 0 is needed.")

    async def ask(self, request: Callable[[], Awaitable[T]]) -> T:
        """The request's answer.

        :raises Failed: when no other try would help, or none fits into *total* any more.
        """
        import openai

        start = time.monotonic()
        deadline = start + self.total
        tries = 0
        while True:
            await asyncio.sleep(max(0.0, self._not_before - time.monotonic()))
            tries += 1
            try:
                return await asyncio.wait_for(request(), min(self.once, max(1.0, deadline - time.monotonic())))
            except (asyncio.TimeoutError, openai.APIError, Garbled) as error:
                found = verdict(error)
                status = getattr(error, "status_code", None)
            wait = found.wait
            if wait is None:
                wait = min(self.longest, self.first * 2.0 ** (tries - 1)) * random.uniform(0.5, 1.0)
            if tries >= found.tries or time.monotonic() + wait >= deadline:
                notes = [found.detail, f"tried {tries} times in {time.monotonic() - start:.0f} s" if tries > 1 else ""]
                notes.append(f"it asks to wait {found.wait:.0f} s" if found.wait is not None else "")
                raise Failed(found.reason, found.scope, status, "; ".join(filter(None, notes)))
            if found.wait is not None:
                self._not_before = max(self._not_before, time.monotonic() + wait)
            await asyncio.sleep(wait)


_REFUSALS = {
    401: "the server refuses the key",
    403: "the server forbids this",
    404: "the server knows no such path or model",
    405: "the server knows no such path or model",
    429: "the quota of this key is used up",
}


def _said(error: openai.APIStatusError) -> str:
    """The server's own message, in one short line."""
    body = error.body
    if isinstance(body, dict) and isinstance(body.get("error"), dict):
        body = body["error"]
    text = body.get("message") or body.get("error") or body.get("detail") if isinstance(body, dict) else body
    return " ".join(str(text or "").split())[:200]


def _retry_after(error: openai.APIStatusError) -> float | None:
    """Seconds that the server asks to wait: a number or a date in ``Retry-After``; ``None`` where it asks for nothing."""
    value = error.response.headers.get("retry-after")
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
