"""The page's HTML before Gradio wakes up in it: in the language and colours that the visitor has chosen, naming no other host."""

from __future__ import annotations

import re

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from playground.texts import LANGUAGES, Language, t
from playground.ui.visitor import THEME_COOKIE, language_of_headers

_FOREIGN = re.compile(rb'\s*<meta\s(?=[^>]*"(?:og|twitter):)[^>]*>')


class Front:
    """ASGI middleware that finishes the HTML page by the request's cookies. Everything else passes through as it is."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET":
            await self.app(scope, receive, send)
            return
        begun: Message | None = None
        page = b""

        async def finish(message: Message) -> None:
            nonlocal begun, page
            if message["type"] == "http.response.start" and Headers(raw=message["headers"]).get("content-type", "").startswith("text/html"):
                begun = message
            elif begun is None:
                await send(message)
            elif message["type"] == "http.response.body":
                page += message.get("body", b"")
                if not message.get("more_body"):
                    body = finished(page, *_wishes(Headers(scope=scope)))
                    kept = [(name, value) for name, value in begun["headers"] if name.lower() != b"content-length"]
                    length = (b"content-length", str(len(body)).encode())
                    varies = (b"vary", b"cookie, accept-language")
                    await send({**begun, "headers": [*kept, length, varies]})
                    await send({"type": "http.response.body", "body": body})

        await self.app(scope, receive, finish)


def finished(page: bytes, language: Language, theme: str | None) -> bytes:
    """The HTML with its language, its description and, where the visitor has chosen one, its theme.

    What the page holds in both languages is shown in this one; Gradio's style sheets, which reach into its container only, couldn't
    tell. Gradio's own texts follow ``navigator.language``, which is made to say what was chosen before its scripts run.
    """
    tag = "zh-CN" if language == "zh" else "en"
    told = f'<script>Object.defineProperty(navigator, "language", {{ get: () => "{tag}" }})</script>'
    other = next(name for name in LANGUAGES if name != language)
    hidden = f'<style>.pg-in[lang="{other}"], [data-pg-language="{language}"] {{ display: none !important; }}</style>'
    described = f'<meta name="description" content="{t(language, "subtitle")}" />'
    page = _FOREIGN.sub(b"", page)
    page = re.sub(rb'(<html\s+lang=)"en"', rb'\1"' + tag.encode() + b'"', page, count=1)
    page = page.replace(b"<head>", f"<head>{told}{hidden}{described}".encode(), 1)
    return page.replace(b"<gradio-app", f'<gradio-app theme_mode="{theme}"'.encode(), 1) if theme else page


def _wishes(headers: Headers) -> tuple[Language, str | None]:
    theme = cookie_parser(headers.get("cookie", "")).get(THEME_COOKIE)
    return language_of_headers(headers), theme if theme in ("light", "dark") else None
