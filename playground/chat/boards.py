"""The boards of all visitors. A tab finds its own again after a reload, by a key that only this tab knows."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict

from playground.chat.conversation import Board

_MOST, _MOST_KEYS = 1000, 100_000
_KEY = re.compile(r"[0-9a-f]{32}")


class Boards:
    """Boards by key. Of too many, those go first on which nothing was said, then those unused for longest; so nobody can push others' chats
    out by opening pages. A session is one load of the page: it begins nameless, and joins its key."""

    def __init__(self) -> None:
        self._boards: OrderedDict[str, Board] = OrderedDict()
        self._keys: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, session: str) -> Board:
        """The session's board, made when it is first asked for."""
        with self._lock:
            key = self._keys.get(session, session)
            board = self._boards.setdefault(key, Board())
            self._boards.move_to_end(key)
            if len(self._boards) > _MOST:
                others = (name for name in self._boards if name != key)
                self._boards.pop(next((name for name in others if not self._boards[name].rounds), next(iter(self._boards)))).stop()
            return board

    def join(self, session: str, key: str) -> Board:
        """The board that the tab's earlier sessions had under *key*, or a new one. A key of another shape is passed over."""
        if _KEY.fullmatch(key):
            with self._lock:
                self._keys[session] = key
                if len(self._keys) > _MOST_KEYS:
                    self._keys.popitem(last=False)
        return self.of(session)

    def leave(self, session: str) -> None:
        """A page was closed or is loaded again: stop what still runs for it. What was said is kept for a tab that has a key."""
        with self._lock:
            key = self._keys.pop(session, None)
            board = self._boards.get(key) if key else self._boards.pop(session, None)
            if board and key not in self._keys.values():
                board.stop()
