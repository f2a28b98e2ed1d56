"""The switch below the chat by which a visitor lets the operator keep it. Off until it is switched on; switched off, what was kept goes."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import gradio as gr

from modelkit.errors import UserError
from modelkit.fingerprint import fingerprint
from playground.chat.sharing import conversations, names
from playground.texts import t
from playground.ui import visitor

if TYPE_CHECKING:
    from leaderboards.votes.store import Store
    from playground.ui.app import Services

_log = logging.getLogger(__name__)


class Sharing:
    """The switch, and the name under which this visitor's chat is kept; an empty name is a switch that is off."""

    def __init__(self, services: Services, store: Store, i18n: gr.I18n) -> None:
        self._services, self._store = services, store
        self._on: set[str] = set()
        self._lock = threading.Lock()
        with gr.Row(elem_id="pg-keep"):
            self._box = gr.Checkbox(False, label=i18n("chat.keep"), info=i18n("chat.keep.info"), container=False)
            self._note = gr.HTML()
        self._name = gr.State("")

    def wire(self, settled: Iterable[Any]) -> None:
        """Keep the chat when it is switched on, and after each of these events."""
        quick: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "undocumented"}
        switched = self._box.input(self._switch, [self._box, self._name], [self._name, self._note], api_name="keep", **quick)
        for event in (switched, *settled):
            event.then(self._keep, self._name, self._note, **quick)

    def _switch(self, on: bool, name: str, request: gr.Request) -> tuple[str, str]:
        with self._lock:
            self._on.discard(name)
            if name:
                with visitor.told():
                    self._store.delete(names(name))
            if on:
                self._on.add(chosen := secrets.token_hex(8))
        return chosen if on else "", ""

    def _keep(self, name: str, request: gr.Request) -> Any:
        board, language = self._services.boards.of(visitor.session(request)), visitor.language(request)
        if not name or board.busy:
            return gr.skip()
        try:
            found = list(conversations(board, name, t(language, "chat.keep.info"), time.time(), self._fingerprint))
            with self._lock:
                if name not in self._on:  # switched off while a checkpoint's files were read for its fingerprint
                    return gr.skip()
                for conversation in found:
                    self._store.keep(conversation)
        except UserError as error:
            _log.warning("a chat could not be kept: %s", error)
            return f'<p class="pg-facts">{t(language, "chat.keep.failed")}</p>'
        return f'<p class="pg-facts">{t(language, "chat.keep.kept", first=names(name)[0], last=names(name)[-1])}</p>'

    def _fingerprint(self, checkpoint: str) -> str:
        entry = next((entry for entry in self._services.models.catalogue() if entry.id == checkpoint), None)
        return fingerprint(entry.path) if entry else ""
