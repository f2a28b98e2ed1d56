"""Other applications on the page's own address: the leaderboard's page, and the API with `playground page --api`."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

API_PATHS = ("/v1/", "/health", "/metrics")


class Beside:
    """ASGI middleware that hands *paths* to *other*, which has its own key and limits, and all others on."""

    def __init__(self, app: ASGIApp, other: ASGIApp, paths: tuple[str, ...]) -> None:
        self._app, self._other, self._paths = app, other, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        theirs = scope["type"] == "http" and scope["path"].startswith(self._paths)
        await (self._other if theirs else self._app)(scope, receive, send)
