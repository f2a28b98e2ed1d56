from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkit.errors import UserError
from playground.chat.conversation import Board
from playground.chat.replies import Reply
from playground.chat.settings import ChatSettings
from tests.playground.fake_writer import FakeWriter

TWO = ["pocket/sft", "pocket/rl", None, None]
USUAL = ChatSettings()


def answered(board: Board, writer: FakeWriter | None = None, chosen: ChatSettings = USUAL) -> None:
    for column in range(4):
        for _ in board.answer(column, writer or FakeWriter(), chosen):
            pass


def reply_of(board: Board, column: int, place: int = -1) -> Reply:
    return board.rounds[place].replies[column]


def test_a_message_goes_to_every_column_and_each_remembers_its_own_replies() -> None:
    board, left, right = Board(), FakeWriter(["left"]), FakeWriter(["right"])
    for prompt in ("one", "two"):
        assert board.begin(prompt, TWO)
        assert board.busy
        for column, writer in ((0, left), (1, right)):
            list(board.answer(column, writer, USUAL))
    assert not board.busy
    assert [asked.prompt for asked in board.rounds] == ["one", "two"]
    assert [message["content"] for message in left.heard[-1][1]] == ["one", "left", "two"]
    assert [message["content"] for message in right.heard[-1][1]] == ["one", "right", "two"]
    assert right.heard[-1][0] == "pocket/rl"
    assert board.rounds[-1].replies.keys() == {0, 1}


def test_nothing_begins_while_columns_are_busy_or_the_message_is_blank() -> None:
    board = Board()
    assert not board.begin("  ", TWO)
    assert not board.begin("one", [None] * 4)
    assert not board.again(TWO)
    assert board.begin("one", TWO)
    assert not board.begin("two", TWO)
    assert not board.again(TWO)
    answered(board)
    assert board.begin("two", TWO)


def test_a_message_that_is_too_long_is_refused() -> None:
    board = Board()
    with pytest.raises(UserError, match="shorten"):
        board.begin("x" * 9000, TWO)
    board.begin("one", TWO)
    with pytest.raises(UserError, match="shorten"):
        board.edit(0, "x" * 9000, TWO)
    assert board.rounds[0].prompt == "one"


def test_a_conversation_has_an_end() -> None:
    board = Board()
    for count in range(100):
        assert board.begin(f"{count}", TWO)
        board.stop()
    with pytest.raises(UserError, match="clear it"):
        board.begin("one more", TWO)


def test_a_column_that_is_not_asked_says_nothing_and_none_answers_twice() -> None:
    board = Board()
    assert list(board.answer(0, FakeWriter(), USUAL)) == []
    board.begin("one", TWO)
    first = board.answer(0, FakeWriter(), USUAL)
    next(first)
    assert list(board.answer(0, FakeWriter(), USUAL)) == []
    assert len(list(first)) == 4


def test_one_column_is_stopped_and_the_others_go_on() -> None:
    board = Board()
    board.begin("one", TWO)
    left, right = (board.answer(column, FakeWriter(), USUAL) for column in (0, 1))
    for writing in (left, right):
        next(writing)
        next(writing)
    board.stop(0)
    assert list(left)[-1].finish == "cancelled"
    assert not board.at_work(0)
    assert board.at_work(1)
    assert list(right)[-1].finish == "stop"
    assert reply_of(board, 0).text == "one"
    assert reply_of(board, 1).text == "one two three"


def test_what_is_stopped_before_it_began_has_not_a_word() -> None:
    board, writer = Board(), FakeWriter()
    board.begin("one", TWO)
    board.stop()
    assert not board.busy
    answered(board, writer)
    assert writer.heard == []
    assert [reply_of(board, column).finish for column in (0, 1)] == ["cancelled"] * 2


def test_a_visitor_who_leaves_ends_the_reply() -> None:
    board = Board()
    board.begin("one", TWO)
    writing = board.answer(0, FakeWriter(), USUAL)
    next(writing)
    next(writing)
    writing.close()  # type: ignore[attr-defined]
    assert (reply_of(board, 0).phase, reply_of(board, 0).finish, reply_of(board, 0).text) == ("done", "cancelled", "one")
    assert not board.at_work(0)


def test_regenerating_draws_other_random_numbers_for_the_same_message() -> None:
    board, writer = Board(), FakeWriter()
    board.begin("one", TWO)
    answered(board, writer)
    assert board.again(TWO)
    answered(board, writer)
    assert len(board.rounds) == 1
    assert len({asked.seed for _, _, asked in writer.heard}) == 2
    assert board.again(TWO, column=1)
    assert (board.at_work(0), board.at_work(1)) == (False, True)
    answered(board, writer)
    assert writer.heard[-1][0] == "pocket/rl"
    assert board.rounds[0].attempts == {0: 1, 1: 2}


def test_a_column_that_joins_later_is_asked_with_what_it_took_part_in() -> None:
    board, writer = Board(), FakeWriter()
    board.begin("one", TWO)
    answered(board)
    board.begin("two", ["pocket/sft", "pocket/rl", "pocket/base", None])
    list(board.answer(2, writer, USUAL))
    assert [message["content"] for message in writer.heard[0][1]] == ["two"]


def test_an_edited_message_is_asked_anew_and_what_followed_is_forgotten() -> None:
    board, writer = Board(), FakeWriter()
    for prompt in ("one", "two", "three"):
        board.begin(prompt, TWO)
        answered(board)
    assert board.edit(1, "zwei", TWO)
    answered(board, writer)
    assert [asked.prompt for asked in board.rounds] == ["one", "zwei"]
    assert [message["content"] for message in writer.heard[0][1]] == ["one", "one two three", "zwei"]
    assert not board.edit(5, "nowhere", TWO)
    assert not board.edit(0, "  ", TWO)


def test_editing_while_columns_write_ends_what_they_wrote() -> None:
    board = Board()
    board.begin("one", TWO)
    old = board.answer(0, FakeWriter(["old"]), USUAL)
    next(old)
    assert board.edit(0, "uno", TWO)
    assert list(old) == []
    assert board.at_work(0)
    answered(board, FakeWriter(["new"]))
    assert [reply_of(board, column).text for column in (0, 1)] == ["new", "new"]


def test_undo_gives_the_message_back() -> None:
    board = Board()
    assert board.undo() is None
    for prompt in ("one", "two"):
        board.begin(prompt, TWO)
        answered(board)
    assert board.undo() == "two"
    assert [asked.prompt for asked in board.rounds] == ["one"]


def test_the_picked_sample_is_what_later_rounds_see() -> None:
    board, writer = Board(), FakeWriter()
    board.begin("one", TWO)
    answered(board, chosen=ChatSettings(n=3))
    assert board.pick(0, 1, 2)
    assert reply_of(board, 1).picked == 2
    assert reply_of(board, 1).reward == -1.0
    board.begin("two", TWO)
    assert not board.pick(1, 1, 0)
    assert not board.pick(0, 1, 0)
    answered(board, writer)
    assert writer.heard[1][1][1]["content"] == "one two three 2"
    assert not board.pick(1, 1, 99)


def test_a_failed_reply_is_not_part_of_the_history() -> None:
    board, writer = Board(), FakeWriter()
    board.begin("one", TWO)
    answered(board)
    board.fail(0, "a cosmic ray")
    board.begin("two", TWO)
    answered(board, writer)
    assert [message["content"] for message in writer.heard[0][1]] == ["two"]


def test_clear_forgets_everything_even_while_writing() -> None:
    board = Board()
    board.begin("one", TWO)
    writing = board.answer(0, FakeWriter(), USUAL)
    next(writing)
    board.clear()
    assert list(writing) == []
    assert board.rounds == []
    assert not board.busy


MOVES = st.sampled_from(["begin", "again", "again 0", "edit", "undo", "pick", "stop", "stop 1", "clear", "step 0", "step 1", "finish"])


@settings(max_examples=150, deadline=None)
@given(st.lists(MOVES, max_size=30))
def test_whatever_a_visitor_does_a_board_is_never_stuck_and_never_mixes_columns_up(moves: list[str]) -> None:
    board = Board()
    writing: dict[int, list] = {0: [], 1: []}
    for count, move in enumerate(moves):
        verb, _, column = move.partition(" ")
        if verb == "begin":
            board.begin(f"message {count}", TWO)
        elif verb == "again":
            board.again(TWO, int(column) if column else None)
        elif verb == "edit":
            board.edit(0, f"edited {count}", TWO)
        elif verb == "pick":
            board.pick(len(board.rounds) - 1, 0, 1)
        elif verb == "stop":
            board.stop(int(column) if column else None)
        elif verb in ("undo", "clear"):
            getattr(board, verb)()
        elif verb == "step":
            stream = board.answer(int(column), FakeWriter([f"column{column}"] * 3), ChatSettings(n=2))
            if next(stream, None):
                writing[int(column)].append(stream)
        else:
            for streams in writing.values():
                for stream in streams:
                    list(stream)
        for asked in board.rounds[:-1]:
            assert all(reply.phase == "done" for reply in asked.replies.values())
        for asked in board.rounds:
            for place, reply in asked.replies.items():
                assert f"column{1 - place}" not in reply.text
                assert reply.checkpoint == TWO[place]
    for streams in writing.values():
        for stream in streams:
            list(stream)
    board.stop()
    assert not board.busy
    assert board.begin("at last", TWO)
