"""The page's door: which of Gradio's many routes are open, how much a request may carry, how often somebody may knock."""

from __future__ import annotations

import json
import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from playground.guard.addresses import Addresses
from playground.guard.rates import Rates
from playground.texts import Language, t
from playground.ui.visitor import language_of_headers

MAX_WAITING = 512
"""Requests that may wait in the page's queue before further ones are turned away."""
_BODY_BYTES = 1 << 20
"""What a request may carry that uploads no file. The longest that the page itself sends is a tenth of it."""
_KNOCKS, _KNOCKS_AT_ONCE = 3000, 240
"""Posts a minute, and at once, from one address: fifty open tabs make them; one address alone can't fill the queue at once."""
_LOGINS = 10
"""Attempts to log in a minute, from one address."""
_UPLOADS = 10
"""Uploads a minute, from one address: each stays on the disk for a day."""
_SESSION_CHARACTERS = 64
"""Of a session's name, which the browser makes up and the page keeps in many places. Gradio's have 11, those of its client 36."""
_STREAMS = 200
"""Answers without an end that one address may hold open; a tab has two."""
_QUEUE_ANSWERS_BUSY = 503
_ADDRESS = re.compile(r"\s*[a-z][a-z0-9+.-]+:", re.IGNORECASE)
_ENDLESS = re.compile(r"(/gradio_api)?/(heartbeat/|queue/data|upload_progress|call/)")

_UPLOAD = re.compile(r"(/gradio_api)?/upload/?")
_OPEN = re.compile(
    r"/(login|logout|config|theme\.css|robots\.txt|favicon\.ico|manifest\.json|pwa_icon(/\d+)?)?/?"
    r"|/(assets|static|svelte)/.*"
    r"|(/gradio_api)?/(info|queue/join|queue/data|(run|call)/.*|cancel|reset|heartbeat/[^/]{1,64}|upload|upload_progress|file=/.*|startup-events"
    r"|theme\.css|login_check|user|token|app_id)/?"
)
"""Everything that the page and Gradio's own client ask for. Whatever else Gradio serves is not there: proxies, recordings, editors, files
from addresses, which Gradio would fetch."""


@dataclass
class _Passage:
    """A request on its way in and its answer on its way out."""

    language: Language
    begun: bool = False
    refused: bool = False
    carried: int = 0


class Door:
    """ASGI middleware around the page. What it refuses, it refuses in one sentence, in the visitor's language.

    :param upload_bytes: what an uploaded file may have; 0 where nothing can be uploaded.
    :param beside: where other pages begin that stand on the same address.
    """

    def __init__(self, app: ASGIApp, upload_bytes: int, beside: tuple[str, ...] = ()) -> None:
        self._app, self._upload_bytes, self._beside = app, upload_bytes, beside
        self._addresses = Addresses()
        self._knocks, self._logins, self._uploads = Rates(_KNOCKS, _KNOCKS_AT_ONCE), Rates(_LOGINS), Rates(_UPLOADS)
        self._streams: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers, path, client = Headers(scope=scope), scope["path"], scope.get("client")
        name = self._addresses.name(client[0] if client else "")
        language = language_of_headers(headers)
        if not (_OPEN.fullmatch(path) or path.startswith(self._beside)) or (_UPLOAD.fullmatch(path) and not self._upload_bytes):
            await _refuse(send, 404, t(language, "door.nothing"))
        elif scope["method"] == "POST":
            await self._post(scope, receive, send, headers, language, name)
        elif not _ENDLESS.match(path):
            await self._app(scope, receive, send)
        elif self._streams[name] >= _STREAMS:
            await _refuse(send, 429, t(language, "door.busy"), 5.0)
        else:
            self._streams[name] += 1
            try:
                await self._app(scope, receive, send)
            finally:
                self._streams -= Counter((name,))  # which also forgets a name that has none left

    async def _post(self, scope: Scope, receive: Receive, send: Send, headers: Headers, language: Language, name: str) -> None:
        if headers.get("sec-fetch-site") in ("cross-site", "same-site"):  # Gradio lets any site speak for who has logged in here
            await _refuse(send, 403, t(language, "door.elsewhere"))
            return
        uploading, path = _UPLOAD.fullmatch(scope["path"]) is not None, scope["path"].rstrip("/")
        seldom = self._uploads if uploading else self._logins if path == "/login" else None
        if wait := self._knocks.take(name) or (seldom.take(name) if seldom else 0.0):
            await _refuse(send, 429, t(language, "door.often", seconds=_whole(wait)), wait)
            return
        most = _BODY_BYTES + (self._upload_bytes if uploading else 0)
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > most:
            await _refuse(send, 413, t(language, "door.large"))
            return
        passage = _Passage(language)
        weighed = _weighed(receive, passage, most)
        with suppress(_TooLarge):  # frameworks below may also have made an answer of it
            if "json" in headers.get("content-type", "json").lower():
                weighed, fault = await _looked_at(weighed)
                if fault:
                    await _refuse(send, 400, t(language, fault))
                    return
            await self._app(scope, weighed, _answered(send, passage))
        if passage.refused and not passage.begun:
            await _refuse(send, 413, t(language, "door.large"))


class _TooLarge(Exception):
    """More has come than a request may carry."""


def _weighed(receive: Receive, passage: _Passage, most: int) -> Receive:
    """*receive*, until more than so many bytes have come."""

    async def weighed() -> Message:
        message = await receive()
        passage.carried += len(message.get("body", b""))
        if passage.carried > most:
            passage.refused = True
            raise _TooLarge
        return message

    return weighed


async def _looked_at(receive: Receive) -> tuple[Receive, str | None]:
    """*receive* with the whole body, and the text that says why it may not go on."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            break
        body, more = body + message.get("body", b""), message.get("more_body", False)
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    return again, _fault(body)


def _fault(body: bytes) -> str | None:
    """What is wrong with a JSON text: a session's name that is too long to be kept, or a file, as Gradio writes it, whose path is an
    address, which Gradio would fetch; a text too deep to be read counts as one."""
    try:
        told = json.loads(body)
    except ValueError:
        return None
    except RecursionError:
        return "door.address"
    if isinstance(told, dict) and len(str(told.get("session_hash", ""))) > _SESSION_CHARACTERS:
        return "door.large"
    rest = [told]
    while rest:
        value = rest.pop()
        if isinstance(value, dict):
            if _ADDRESS.match(str(value.get("path", ""))):
                return "door.address"
            rest += value.values()
        elif isinstance(value, list):
            rest += value
    return None


def _answered(send: Send, passage: _Passage) -> Send:
    """*send*, but a full queue is told in the visitor's language, and what Gradio makes of a refused body isn't told at all."""

    async def answered(message: Message) -> None:
        if passage.refused:
            return
        if message["type"] == "http.response.start":
            if message["status"] == _QUEUE_ANSWERS_BUSY:
                passage.refused = passage.begun = True
                await _refuse(send, 429, t(passage.language, "door.busy"), 5.0)
                return
            passage.begun = True
        await send(message)

    return answered


async def _refuse(send: Send, status: int, sentence: str, retry_after: float | None = None) -> None:
    """Answer with ``{"detail": sentence}``, which Gradio's page shows as it is."""
    body = json.dumps({"detail": sentence}, ensure_ascii=False).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if retry_after is not None:
        headers.append((b"retry-after", str(_whole(retry_after)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _whole(seconds: float) -> int:
    """Seconds to wait, as a whole number that is enough."""
    return int(seconds) + 1
