"""The whole page: header, tabs, and what is the same for all of them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import gradio as gr
from starlette.middleware import Middleware
from starlette.types import ASGIApp

from playground import texts
from playground.api.beside import API_PATHS, Beside
from playground.arena.visits import Arenas
from playground.chat.boards import Boards
from playground.chat.replies import stream_reply
from playground.endpoints import Served
from playground.guard.admission import Admission
from playground.guard.credentials import OPEN, Credentials
from playground.leaderboard import PATH, LiveBoard
from playground.leaderboard import beside as leaderboard_page
from playground.models import Models
from playground.settings import MAX_TOKENS, UPLOAD_BYTES, Settings
from playground.training.jobs import Jobs
from playground.training.watch import Trainer, Watches
from playground.ui import arena, chat, leaderboard, microscope, train
from playground.ui.blocks import ThriftyBlocks
from playground.ui.door import MAX_WAITING, Door
from playground.ui.front import Front
from playground.ui.head import head
from playground.ui.headers import ContentPolicy
from playground.ui.login import Login
from playground.ui.theme import CSS, SCRIPTS, theme
from playground.writers import Writers

if TYPE_CHECKING:
    from leaderboards.votes.store import Store
    from playground.hosting.zero_gpu import ZeroGpu

Result = TypeVar("Result")


@dataclass
class Services:
    """What the page shows and drives; tests put others in their place. ``visited`` is set by the first visitor.

    Replies have up to ``longest`` tokens; ``gpu`` computes where this process has none of its own.
    """

    models: Models
    trainer: Trainer
    watches: Watches
    boards: Boards = field(default_factory=Boards)
    visited: threading.Event = field(default_factory=threading.Event)
    served: tuple[Served, ...] = ()
    store: Store | None = None
    arenas: Arenas = field(default_factory=Arenas)
    admission: Admission = field(default_factory=Admission)
    longest: int = MAX_TOKENS
    gpu: ZeroGpu | None = None
    jobs: Jobs | None = None
    data: Path | None = None

    @property
    def writers(self) -> Writers:
        """Whoever can fill a column."""
        return Writers(self.models, self.served, self.longest, self.admission.words, self.gpu.stream if self.gpu else stream_reply)

    def compute(self, job: Callable[..., Result], *told: Any) -> Result:
        """``job(models, *told)``, wherever models compute. *job* is a module's own function, and *told* are plain values."""
        return self.gpu.call(job, *told) if self.gpu else job(self.models, *told)


_UPLOADS_KEPT = (3600, 86400)
"""Every hour, uploads older than a day are deleted; a training has a copy of its own (seconds)."""
_THREADS = 128
"""Handlers that may be at work at a time: a reply that is being written takes one while its column waits for more of it."""

I18N = gr.I18n(en=texts.translations("en"), **{"zh": texts.translations("zh"), "zh-CN": texts.translations("zh")})


def build(settings: Settings, services: Services) -> gr.Blocks:
    """The page, ready to be launched. A tab is one file with ``build(page, services, I18N)``, which opens its own ``gr.Tab``.

    Whatever a tab makes stands inside of it: anything between tabs, a state even, would shift the places that Gradio knows them by.
    """
    with ThriftyBlocks(title=texts.t("en", "title"), analytics_enabled=False, fill_width=True, delete_cache=_UPLOADS_KEPT) as page:
        head(I18N)
        with gr.Tabs(selected=(first := _first_tab(services)), elem_id="pg-tabs") as tabs:
            chat.build(page, services, I18N)
            arena.build(page, services, I18N)
            microscope.build(page, services, I18N)
            train.build(page, services, I18N)
            leaderboard.build(page, services, I18N)

        def open_first() -> Any:
            """Another tab than the one that came first when the page was made; a visitor who has chosen one by now stays there."""
            now = _first_tab(services)
            return gr.skip() if now == first else gr.Tabs(selected=now)

        page.load(open_first, None, tabs, api_visibility="private", show_progress="hidden")
    return page


def _first_tab(services: Services) -> str:
    """Training, until there is something to talk to."""
    return "chat" if services.models.catalogue() else "train"


def launch(page: gr.Blocks, settings: Settings, board: LiveBoard, api: ASGIApp | None = None, credentials: Credentials = OPEN) -> str:
    """Serve the page, and the leaderboard's and *api* beside it, in the background and return the page's address."""
    api_too = [Middleware(Beside, other=api, paths=API_PATHS)] if api is not None else []
    board_too = Middleware(Beside, other=leaderboard_page(board), paths=(PATH,))
    guarded = [Middleware(Door, upload_bytes=UPLOAD_BYTES if settings.training else 0, beside=(PATH,))]
    guarded += [Middleware(Login, credentials=credentials)] if credentials.users else []
    _, url, _ = page.queue(max_size=MAX_WAITING).launch(
        server_name=settings.host,
        server_port=settings.port,
        prevent_thread_lock=True,
        quiet=True,
        _frontend=False,  # Gradio would give up where its own first answer takes more than three seconds, as it may beside a trainer
        show_error=False,
        ssr_mode=False,
        share=False,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        max_threads=_THREADS,
        max_file_size=UPLOAD_BYTES,
        blocked_paths=[str(settings.runs)],
        theme=theme(),
        css_paths=CSS,
        head="".join(f"<script>{file.read_text(encoding='utf-8')}</script>" for file in SCRIPTS),
        i18n=I18N,
        app_kwargs={"middleware": [*api_too, Middleware(ContentPolicy), *guarded, board_too, Middleware(Front)]},
    )
    return url
