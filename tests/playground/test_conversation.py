from __future__ import annotations

import pytest

from modelkit.errors import UserError
from playground.conversation import Board, Boards
from playground.models import Models
from playground.replies import ChatSettings

SHORT = ChatSettings(max_tokens=8, candidates=2)
TWO = ["pocket/sft", "pocket/rl", None, None]


def answered(board: Board, models: Models) -> None:
    for column in range(4):
        for _ in board.answer(column, models, SHORT):
            pass


def test_every_column_keeps_its_own_conversation(models: Models) -> None:
    board = Board()
    for prompt in ("one", "two"):
        assert board.begin(prompt, TWO)
        answered(board, models)
    left, right, *rest = board.conversations
    assert [turn.prompt for turn in left] == [turn.prompt for turn in right] == ["one", "two"]
    assert [turn.checkpoint for turn in right] == ["pocket/rl"] * 2
    assert all(turn.reply and turn.reply.phase == "done" for turn in left + right)
    assert rest == [[], []]


def test_nothing_begins_while_columns_are_busy_or_the_message_is_blank(models: Models) -> None:
    board = Board()
    assert not board.begin("  ", TWO)
    assert not board.begin("one", [None] * 4)
    assert board.begin("one", TWO)
    assert board.busy
    assert not board.begin("two", TWO)
    assert not board.again(TWO)
    answered(board, models)
    assert not board.busy


def test_a_message_that_is_too_long_is_refused() -> None:
    with pytest.raises(UserError, match="shorten"):
        Board().begin("x" * 9000, TWO)


def test_a_column_that_is_not_waiting_yields_nothing(models: Models) -> None:
    assert list(Board().answer(0, models, SHORT)) == []


def test_stop_ends_every_column_and_what_was_written_stays(models: Models) -> None:
    board = Board()
    board.begin("one", TWO)
    writing = board.answer(0, models, ChatSettings(max_tokens=200))
    for turns in writing:
        if turns[-1].reply and turns[-1].reply.text:
            break
    board.stop()
    last = list(writing)[-1][-1].reply
    assert last is not None
    assert (last.finish, bool(last.text)) == ("cancelled", True)
    answered(board, models)
    other = board.conversations[1][-1].reply
    assert other is not None
    assert (other.finish, other.tokens) == ("cancelled", 0)
    assert not board.busy


def test_a_visitor_who_leaves_ends_the_reply(models: Models) -> None:
    board = Board()
    board.begin("one", TWO)
    writing = board.answer(0, models, ChatSettings(max_tokens=200))
    next(writing)
    writing.close()  # type: ignore[attr-defined]
    reply = board.conversations[0][-1].reply
    assert reply is not None
    assert (reply.phase, reply.finish) == ("done", "cancelled")


def test_regenerating_draws_another_reply_to_the_same_prompt(models: Models) -> None:
    board = Board()
    board.begin("one", TWO)
    answered(board, models)
    first = board.conversations[0][-1].reply
    assert board.again(TWO)
    answered(board, models)
    second = board.conversations[0][-1].reply
    assert len(board.conversations[0]) == 1
    assert first is not None
    assert second is not None
    assert first.text != second.text


def test_clear_forgets_everything_even_while_writing(models: Models) -> None:
    board = Board()
    board.begin("one", TWO)
    writing = board.answer(0, models, ChatSettings(max_tokens=200))
    next(writing)
    board.clear()
    assert list(writing) == []
    assert board.conversations == [[], [], [], []]
    assert not board.busy


def test_what_a_visitor_said_is_gone_when_they_leave() -> None:
    boards = Boards()
    board = boards.of("session")
    board.begin("one", TWO)
    assert boards.of("session") is board
    boards.leave("session")
    assert boards.of("session") is not board
    assert boards.of("other").conversations == [[], [], [], []]
