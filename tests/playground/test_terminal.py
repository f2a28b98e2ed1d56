from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from playground.chat.settings import ChatSettings
from playground.models import Models
from playground.terminal import TerminalChat
from tests.playground.served import ROOT


class Talk:
    """A chat in which these lines are typed."""

    def __init__(self, models: Models, *lines: str) -> None:
        typed: Iterator[str] = iter(lines)
        self.notes = io.StringIO()

        def read() -> str:
            for line in typed:
                return line
            raise EOFError

        console = Console(file=self.notes, width=200)
        settings = ChatSettings(temperature=1.0, max_tokens=8, seed=1)
        self.chat = TerminalChat(models, models.entry("pocket/sft"), settings, console, read)
        self.chat.run()


def test_turns_add_up_and_each_reply_has_its_reward(models: Models, capsys: pytest.CaptureFixture[str]) -> None:
    talk = Talk(models, "What is seven plus five?", "", "热的反义词是什么？")
    roles = [message["role"] for message in talk.chat.messages]
    assert roles == ["user", "assistant"] * 2
    written = capsys.readouterr().out
    assert all(message["content"] in written for message in talk.chat.messages if message["role"] == "assistant")
    assert talk.notes.getvalue().count("reward ") == 2


def test_commands(models: Models) -> None:
    once = Talk(models, "What is it?")
    again = Talk(models, "What is it?", "/regenerate")
    assert len(again.chat.messages) == 2
    assert again.chat.messages[1] != once.chat.messages[1]
    assert Talk(models, "What is it?", "/undo").chat.messages == []
    assert Talk(models, "What is it?", "/reset", "Who?").chat.messages[0]["content"] == "Who?"
    ordered = Talk(models, "What is it?", "/system Be short.", "Who?")
    assert ordered.chat.settings.system == "Be short."
    assert len(ordered.chat.messages) == 2
    assert Talk(models, "/exit", "What is it?").chat.messages == []
    assert "/regenerate" in Talk(models, "/help").notes.getvalue()
    tuned = Talk(models, "/set temperature 0", "/set max_tokens 3", "/set temperature hot", "/set seed", "/set top_p 7", "/regenerate")
    assert (tuned.chat.settings.temperature, tuned.chat.settings.max_tokens) == (0.0, 3)
    assert tuned.notes.getvalue().count("/set takes one of") == 2
    assert "top-p" in tuned.notes.getvalue()


def test_lines_from_a_pipe_are_answered_on_standard_output(finished_run: Path) -> None:
    command = [sys.executable, "-m", "playground", "chat", "-m", str(finished_run / "sft"), "--temperature", "0", "--max-tokens", "5"]
    done = subprocess.run(command, cwd=ROOT, input="Hello\nHello again\n", capture_output=True, text=True, encoding="utf-8", timeout=300)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) >= 2
    assert "tokens/s" not in done.stdout
    assert "tokens/s" in done.stderr


def test_a_reward_model_alone_can_not_chat(finished_run: Path) -> None:
    command = [sys.executable, "-m", "playground", "chat", "-m", str(finished_run / "rm")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: a reward model scores replies and writes none: name a language model with --model.\n"
