"""Chats that may be kept: whole conversations of finished replies, under the sentence agreed to."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from leaderboards.votes.store import Store
from playground.chat.boards import Boards
from playground.chat.conversation import Board
from playground.chat.settings import ChatSettings
from playground.chat.sharing import conversations, names
from tests.playground.fake_writer import FakeWriter


def chat(board: Board, prompt: str, settings: ChatSettings, columns: int = 2) -> None:
    board.begin(prompt, ["pocket/sft", "pocket/rl"][:columns])
    for column in range(columns):
        list(board.answer(column, FakeWriter(("Yes,", prompt)), settings))


def test_each_column_s_whole_conversation_is_kept_with_what_was_agreed_to() -> None:
    board = Board()
    chat(board, "One?", ChatSettings(system="Be kind."))
    chat(board, "二？", ChatSettings(system="Be kind."), columns=1)
    first, second = conversations(board, "visitor", "Keep it.", 5.0, lambda checkpoint: f"sha256:{checkpoint}")
    assert [message["content"] for message in first.messages] == ["Be kind.", "One?", "Yes, One?", "二？", "Yes, 二？"]
    assert [message["role"] for message in second.messages] == ["system", "user", "assistant"]
    assert (first.id, second.id) == tuple(names("visitor")[:2])
    assert (first.session, first.consent, first.time, first.language, second.language) == ("visitor", "Keep it.", 5.0, "zh", "en")
    assert (first.checkpoint, first.fingerprint) == ("pocket/sft", "sha256:pocket/sft")


def test_what_was_stopped_or_failed_is_not_kept() -> None:
    board = Board()
    board.begin("One?", ["pocket/sft", "pocket/rl"])
    board.stop()
    assert list(conversations(board, "visitor", "Keep it.", 5.0, str)) == []
    assert list(conversations(Board(), "visitor", "Keep it.", 5.0, str)) == []


def test_nothing_is_kept_of_who_switches_off_while_it_is_being_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import gradio as gr

    from playground.ui.sharing import Sharing

    store, boards = Store(f"sqlite:///{tmp_path / 'votes.sqlite'}"), Boards()
    request: Any = SimpleNamespace(session_hash="visitor", cookies={}, headers={})
    chat(boards.of("visitor"), "One?", ChatSettings())
    with gr.Blocks():
        switch: Any = Sharing(SimpleNamespace(boards=boards), store, gr.I18n())  # type: ignore[arg-type]
    monkeypatch.setattr(switch, "_fingerprint", str)
    name, _ = switch._switch(True, "", request)
    assert names(name)[0] in switch._keep(name, request)
    assert len(list(store.conversations())) == 2

    def switch_off(checkpoint: str) -> str:
        switch._switch(False, name, request)
        return checkpoint

    monkeypatch.setattr(switch, "_fingerprint", switch_off)
    switch._keep(name, request)
    assert list(store.conversations()) == []
    store.close()
