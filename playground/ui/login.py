"""Names and passwords before the page, and before all that stands beside it on the same address.

Who has logged in carries a cookie that says their name and until when, signed with a key made of the passwords: several servers with the
same ones believe each other's, and a changed password ends its sessions.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from html import escape
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.requests import Request, cookie_parser
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from playground.guard.credentials import Credentials
from playground.hosting.host import Host
from playground.texts import Language, t
from playground.ui.visitor import language_of_headers

COOKIE = "pg-login"
_DAYS = 7
_BODY_BYTES = 4096
_PUBLIC = ("/theme.css", "/favicon.ico", "/robots.txt", "/gradio_api/startup-events")
"""What tells nobody anything and is asked for before anybody can have logged in; the last by the page itself, when it starts."""


class Login:
    """ASGI middleware: nobody passes who isn't one of the users."""

    def __init__(self, app: ASGIApp, credentials: Credentials) -> None:
        self._app, self._credentials = app, credentials
        self._key = hashlib.sha256("\n".join(["the page's login", *credentials.pairs]).encode()).digest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "").rstrip("/")
        if scope["type"] != "http" or path in _PUBLIC:
            await self._app(scope, receive, send)
            return
        request, headers = Request(scope, receive), Headers(scope=scope)
        cookies = cookie_parser(headers.get("cookie", ""))
        language = language_of_headers(headers)
        if path == "/login" and scope["method"] == "POST":
            await (await self._log_in(request, language))(scope, receive, send)
        elif path == "/logout":
            answer: Response = RedirectResponse("./", 303)
            _give(answer, request, "", 0)
            await answer(scope, receive, send)
        elif self._believes(cookies.get(COOKIE, "")):
            await self._app(scope, receive, send)
        elif "text/html" in headers.get("accept", "") and scope["method"] == "GET":
            await HTMLResponse(_form(language), 401)(scope, receive, send)
        else:
            await JSONResponse({"detail": t(language, "login.first")}, 401)(scope, receive, send)

    async def _log_in(self, request: Request, language: Language) -> Response:
        """Answer a form: with the page for a browser, with ``{"success": true}`` for a program such as Gradio's client."""
        told = {name: values[-1] for name, values in parse_qs(await _text(request)).items()}
        name = told.get("username", "").strip()
        browser = "text/html" in request.headers.get("accept", "")
        if not self._credentials.admits(name, told.get("password", "")):
            wrong = t(language, "login.wrong")
            return HTMLResponse(_form(language, wrong), 401) if browser else JSONResponse({"detail": wrong}, 401)
        answer: Response = RedirectResponse("./", 303) if browser else JSONResponse({"success": True})
        _give(answer, request, self._signed(name, time.time() + _DAYS * 86400), _DAYS * 86400)
        return answer

    def _signed(self, name: str, until: float) -> str:
        told = f"{base64.urlsafe_b64encode(name.encode()).decode()}.{int(until)}"
        return f"{told}.{hmac.digest(self._key, told.encode(), 'sha256').hex()}"

    def _believes(self, cookie: str) -> bool:
        """Whether a cookie is one of ours, of somebody who is still a user, and not too old."""
        try:
            name, until, _ = cookie.split(".")
            user, last = base64.urlsafe_b64decode(name).decode(), int(until)
            signed = hmac.compare_digest(self._signed(user, last).encode(), cookie.encode())
            return signed and user in dict(self._credentials.users) and last > time.time()
        except (ValueError, binascii.Error):
            return False


def _give(answer: Response, request: Request, value: str, seconds: int) -> None:
    """Put the cookie into an answer. Other sites' requests don't carry it; on a Space, whose page stands in a frame of another site, those
    do that are made inside of this frame."""
    safe = request.url.scheme == "https"
    framed = safe and Host.here().space
    answer.set_cookie(COOKIE, value, seconds, httponly=True, secure=safe, samesite="none" if framed else "lax")
    if framed:
        answer.headers["set-cookie"] += "; Partitioned"  # starlette's own argument needs Python 3.14


async def _text(request: Request) -> str:
    """The body of a form; nothing of one that is longer than any form of ours."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _BODY_BYTES:
            return ""
    return body.decode(errors="replace")


_PAGE = """<!doctype html>
<html lang="{tag}"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title>
<style>
:root {{ color-scheme: light dark; --ink: light-dark(#1f2430, #e6e8ee); --line: light-dark(#c9ced8, #444b5a); --go: #3b5bdb; }}
body {{ margin: 0; min-height: 100vh; display: grid; place-items: center; font: 16px/1.5 system-ui, sans-serif;
  color: var(--ink); background: light-dark(#fff, #14161b); }}
form {{ width: min(20rem, 88vw); display: grid; gap: .8rem; }}
h1 {{ font-size: 1.3rem; margin: 0; }} p {{ margin: 0; }} label {{ display: grid; gap: .25rem; }}
input, button {{ font: inherit; padding: .55rem .7rem; border-radius: .5rem; border: 1px solid var(--line); color: inherit;
  background: light-dark(#fff, #1d2027); }}
button {{ color: #fff; background: var(--go); border-color: var(--go); cursor: pointer; }}
[role=alert] {{ color: light-dark(#b42318, #ff9b8f); }}
</style></head><body><main><form method="post" action="login">
<h1>{title}</h1><p>{why}</p>{wrong}
<label>{name}<input name="username" autocomplete="username" autofocus required></label>
<label>{password}<input name="password" type="password" autocomplete="current-password" required></label>
<button>{enter}</button></form></main></body></html>
"""


def _form(language: Language, wrong: str = "") -> str:
    told = {key: escape(t(language, f"login.{key}")) for key in ("why", "name", "password", "enter")}
    alert = f'<p role="alert">{escape(wrong)}</p>' if wrong else ""
    return _PAGE.format(tag="zh-CN" if language == "zh" else "en", title=escape(t(language, "title")), wrong=alert, **told)
