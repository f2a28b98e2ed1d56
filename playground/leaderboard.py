"""The leaderboard that stands in the tab: the site's own page over all runs and votes, made anew when either has changed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from modelkit.errors import UserError
from modelkit.fingerprint import sha256_of_text
from modelkit.run import Run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from leaderboards.build import Leaderboard
    from modelkit.records import Vote

PATH = "/leaderboard/"
"""Where the page stands, beside the playground's own; the frame in the tab names it without the first slash."""
_SHARE = 10
"""A page that took so long to make is not made again before that many times as long has passed."""
_DAY = "public, max-age=86400"


class Votes(Protocol):
    """Where people's votes are: a :class:`leaderboards.votes.store.Store`."""

    def counts(self) -> dict[str, int]:
        """How many have which status."""
        ...

    def votes(self) -> Iterator[Vote]:
        """All of them."""
        ...


@dataclass(frozen=True)
class Page:
    """A page, and a name for the results and votes it was made of."""

    version: str
    html: str


class LiveBoard:
    """The newest page there is. Only one is made at a time; whoever asks meanwhile gets the one before, if there is one."""

    def __init__(self, runs: Callable[[], Sequence[Run]], votes: Votes | None, root: Path) -> None:
        """:param root: the folder of the runs, which visitors need not be told."""
        self._runs, self._votes, self._root = runs, votes, root
        self._page: Page | None = None
        self._next = 0.0
        self._making = threading.Lock()

    def page(self) -> Page:
        """The page, made anew where results or votes have changed since."""
        if self._making.acquire(blocking=self._page is None):
            try:
                self._renew()
            finally:
                self._making.release()
        assert self._page is not None  # the first one is waited for
        return self._page

    def _renew(self) -> None:
        started = time.monotonic()
        if self._page is None or started >= self._next:
            version = self._version()
            if self._page is None or version != self._page.version:
                self._page = Page(version, self._board().page(version))
                self._next = time.monotonic() + _SHARE * (time.monotonic() - started)

    def _version(self) -> str:
        seen: list[object] = []
        for run in self._runs():
            judgings = run.evaluations().glob("[!.]*/*.json*")
            for file in sorted({run.path / "run.json", *judgings, *run.evaluations().glob("[!.]*/[!.]*/results.json")}):
                about = file.stat()
                seen.append((str(file), about.st_mtime_ns, about.st_size))
        try:
            seen.append(self._votes.counts() if self._votes else None)
        except UserError as error:
            seen.append(str(error))
        return sha256_of_text(repr(seen))

    def _board(self) -> Leaderboard:
        from leaderboards.build import Leaderboard
        from leaderboards.collect import Collection, collect_run

        collection = Collection()
        for run in self._runs():
            collect_run(run, collection)
        try:
            board = Leaderboard.of(collection, self._votes.votes() if self._votes else ())
        except UserError as error:
            board = Leaderboard.of(collection)
            board = replace(board, notes=[*board.notes, str(error)])
        damaged, notes = ([text.replace(f"{self._root}/", "") for text in texts] for texts in (board.damaged, board.notes))
        return replace(board, damaged=damaged, notes=notes)


def beside(board: LiveBoard) -> Starlette:
    """The page, its version and plotly's script at ``PATH``."""
    from leaderboards.site import PLOTLY, plotly_script

    def page(request: Request) -> Response:
        return HTMLResponse(board.page().html, headers={"Cache-Control": "no-cache"})

    def version(request: Request) -> Response:
        return PlainTextResponse(board.page().version, headers={"Cache-Control": "no-cache"})

    def script(request: Request) -> Response:
        return Response(plotly_script(), media_type="text/javascript", headers={"Cache-Control": _DAY})

    routes = [Route(PATH, page), Route(f"{PATH}version", version), Route(f"{PATH}{PLOTLY}", script)]
    return Starlette(routes=routes, middleware=[Middleware(GZipMiddleware)])
