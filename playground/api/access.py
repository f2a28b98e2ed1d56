"""The door: request ids, the key, limits on bytes and requests, and one log line and one count per request."""

from __future__ import annotations

import logging
import secrets
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from playground.api.refusals import Refused
from playground.api.service import Record, Service
from playground.guard.addresses import Addresses
from playground.guard.rates import Rates

_log = logging.getLogger("playground.api")
_OPEN = {"/health"}
"""Answered without a key."""
_WRONG = 10
"""Wrong passwords a minute from one address, after which no further one is looked at; the page's login takes as many."""


class Access:
    """ASGI middleware around the routes. Nothing of what is said is logged, nor who said it."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service
        self._wrong, self._addresses = Rates(_WRONG), Addresses()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record, status = Record(f"req-{secrets.token_hex(8)}"), 0
        scope.setdefault("state", {})["record"] = record

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = record.id
            await send(message)

        try:
            await self._admit(scope, receive, answer)
        except Refused as refused:
            await refused.response()(scope, receive, answer)
        except Exception:
            _log.exception("%s failed", record.id)
            if status:  # half an answer is on its way: only closing the connection tells the client
                raise
            said = f"something went wrong here; the server's log has it under request {record.id}"
            await Refused(500, said).response()(scope, receive, answer)
        finally:
            self._note(scope, record, status)

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers, client = Headers(scope=scope), (scope.get("client") or ("",))[0]
        if self._service.credentials.guard_api and scope["path"] not in _OPEN:
            self._check_key(headers.get("authorization", ""), self._addresses.name(client))
        if scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        most = self._service.limits.body_bytes
        if int(headers.get("content-length") or 0) > most:
            raise _too_large(most)
        with self._service.gate.pass_through(client), self._service.meters.at_work.track_inprogress():
            await self._app(scope, _bounded(receive, most), send)

    def _check_key(self, told: str, address: str) -> None:
        """:raises Refused: when it isn't the key or a user's password, or too many wrong passwords have come from there."""
        credentials = self._service.credentials
        if credentials.users and (wait := self._wrong.wait(address)):
            raise Refused(429, f"too many wrong passwords: try again in {wait:.0f} s", "rate_limit_exceeded", retry_after=wait)
        if not credentials.opens(told):
            if told:
                self._wrong.take(address)
            raise Refused(401, "the key is missing or wrong: send it, or NAME:PASSWORD, as `Authorization: Bearer …`", "invalid_api_key")

    def _note(self, scope: Scope, record: Record, status: int) -> None:
        seconds, meters = time.monotonic() - record.started, self._service.meters
        route = getattr(scope.get("route"), "path", "other")
        said = str(status or "gone")
        meters.requests.labels(route, record.model, said).inc()
        meters.seconds.labels(route).observe(seconds)
        for kind, tokens in {"read": record.read, "reused": record.reused, "written": record.written}.items():
            if tokens:
                meters.tokens.labels(record.model, kind).inc(tokens)
        if record.first is not None:
            meters.first_token.labels(record.model).observe(record.first - record.started)
        _log.info(
            "%s %s %s %s %.3f s %s read %d (reused %d) written %d",
            *(record.id, scope["method"], route, said, seconds, record.model or "-", record.read, record.reused, record.written),
        )


def _bounded(receive: Receive, most: int) -> Receive:
    """*receive*, until more than so many bytes have come."""
    seen = 0

    async def bounded() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > most:
            raise _too_large(most)
        return message

    return bounded


def _too_large(most: int) -> Refused:
    return Refused(413, f"the body is larger than {most >> 20} MiB: send less at a time", "body_too_large")
