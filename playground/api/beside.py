"""The API on the page's own address, for `playground page --api`."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

_PATHS = ("/v1/", "/health", "/metrics")


class Beside:
    """ASGI middleware that hands the API's paths to *api*, which has its own key and limits, and all others on."""

    def __init__(self, app: ASGIApp, api: ASGIApp) -> None:
        self._app, self._api = app, api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        ours = scope["type"] == "http" and scope["path"].startswith(_PATHS)
        await (self._api if ours else self._app)(scope, receive, send)
