from __future__ import annotations

from playground.chat.boards import Boards

KEY = "0123456789abcdef" * 2
TWO = ["pocket/sft", "pocket/rl", None, None]


def test_a_tab_finds_its_board_again_after_a_reload() -> None:
    boards = Boards()
    boards.join("first", KEY).begin("one", TWO)
    boards.leave("first")
    board = boards.join("second", KEY)
    assert [asked.prompt for asked in board.rounds] == ["one"]
    assert not board.busy
    assert boards.of("second") is board


def test_an_old_page_that_leaves_late_does_not_stop_the_new_one() -> None:
    boards = Boards()
    boards.join("first", KEY)
    boards.join("second", KEY).begin("one", TWO)
    boards.leave("first")
    assert boards.of("second").busy


def test_without_a_key_what_was_said_is_gone_when_the_visitor_leaves() -> None:
    boards = Boards()
    board = boards.of("session")
    board.begin("one", TWO)
    assert boards.of("session") is board
    boards.leave("session")
    assert not board.busy
    assert boards.of("session").rounds == []


def test_a_key_of_another_shape_opens_nothing() -> None:
    boards = Boards()
    boards.of("victim").begin("one", TWO)
    for key in ("victim", "", "../etc", KEY.upper(), KEY + "0"):
        assert boards.join("thief", key).rounds == []


def test_a_thousand_chats_later_the_longest_unused_board_is_let_go() -> None:
    boards = Boards()
    first = boards.of("0")
    first.begin("one", TWO)
    for visitor in range(1, 1002):
        boards.of(str(visitor)).begin("one", TWO)
    assert not first.busy
    assert boards.of("0") is not first


def test_a_thousand_pages_that_say_nothing_push_no_chat_out() -> None:
    boards = Boards()
    first = boards.join("0", KEY)
    first.begin("one", TWO)
    for visitor in range(1, 3000):
        boards.join(str(visitor), f"{visitor:032x}")
    assert boards.of("0") is first
    assert first.busy
