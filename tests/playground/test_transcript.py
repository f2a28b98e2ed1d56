from __future__ import annotations

import json
from pathlib import Path

from playground.chat import transcript
from playground.chat.conversation import Board
from playground.chat.settings import ChatSettings
from playground.models import Models
from playground.writers import Writers
from tests.playground.fake_writer import FakeWriter

TWO = ["pocket/sft", "gone/rl"]


def talked() -> Board:
    board = Board()
    for prompt in ("one", "# two"):
        board.begin(prompt, TWO)
        for column in (0, 1):
            list(board.answer(column, FakeWriter(["yes", "\n# no"]), ChatSettings(n=2, system="Be kind.")))
    return board


def test_every_reply_is_a_row_with_the_whole_conversation() -> None:
    rows = [json.loads(line) for line in transcript.jsonl(talked()).splitlines()]
    assert [(row["round"], row["column"], row["checkpoint"]) for row in rows] == [
        (1, 1, "pocket/sft"),
        (1, 2, "gone/rl"),
        (2, 1, "pocket/sft"),
        (2, 2, "gone/rl"),
    ]
    assert [message["role"] for message in rows[2]["messages"]] == ["system", "user", "assistant", "user", "assistant"]
    assert rows[2]["sampling"]["n"] == 2
    assert rows[2]["reward"] == 1.0
    assert len(rows[2]["candidates"]) == 2


def test_the_page_quotes_what_was_said_so_that_it_makes_no_headings(finished_run: Path) -> None:
    text = transcript.markdown(talked(), Writers(Models([finished_run.parent], 1 << 30)), "en")
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        "# RLHF Playground",
        "## 1",
        "### SFT",
        "### gone/rl",
        "## 2",
        "### SFT",
        "### gone/rl",
    ]
    assert "> # two" in text
    assert "reward +1.00 · above 90 % of SFT replies · 2 tokens" in text


def test_a_reply_that_failed_or_is_being_written_is_left_out() -> None:
    board = Board()
    board.begin("one", TWO)
    board.fail(0, "a cosmic ray")
    assert transcript.jsonl(board) == ""
