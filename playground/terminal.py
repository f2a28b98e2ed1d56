"""Chatting in the terminal: replies stream, the reward model speaks after each, and a few commands begin with a slash."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace

from rich.console import Console
from rich.text import Text

from modelkit.chat import Message
from modelkit.errors import UserError
from playground.chat.replies import Reply, stream_reply
from playground.chat.settings import ChatSettings
from playground.entries import Entry
from playground.models import Models

HELP = """\
/system TEXT    set the system prompt (nothing: remove it) and begin anew
/regenerate     draw another reply to the last message
/undo           take the last message and its reply back
/set NAME VALUE temperature, top_p, max_tokens or seed
/reset          begin anew
/exit           leave (or ^D); ^C stops a reply\
"""


@dataclass
class TerminalChat:
    """One person and one checkpoint. ``read`` asks for a line, and raises :class:`EOFError` after the last."""

    models: Models
    entry: Entry
    settings: ChatSettings
    console: Console
    read: Callable[[], str]
    messages: list[Message] = field(default_factory=list)
    attempt: int = 0

    @classmethod
    def open(cls, models: Models, settings: ChatSettings) -> TerminalChat:
        """Load the model and be ready to chat on this process's terminal, or between pipes.

        :raises UserError: when there is no language model, or it can't be loaded.
        """
        entry = next((entry for entry in models.catalogue() if entry.kind != "reward"), None)
        if entry is None:
            raise UserError("a reward model scores replies and writes none: name a language model with --model.")
        console = Console(stderr=not sys.stdout.isatty(), highlight=False)
        with console.status(f"loading {entry.id}"):
            models.language(entry)
        return cls(models, entry, settings, console, _line_reader())

    def run(self) -> None:
        """Talk until the person leaves."""
        self._note(f"{self.entry.id}; /help lists what else can be typed")
        try:
            for line in self._lines():
                if line.startswith("/"):
                    if not self._obey(*line[1:].partition(" ")[::2]):
                        break
                else:
                    self._say(line)
        finally:
            self.models.close()

    def _lines(self) -> Iterator[str]:
        while True:
            try:
                line = self.read().strip()
            except (EOFError, KeyboardInterrupt):
                return
            if line:
                yield line

    def _obey(self, command: str, rest: str) -> bool:
        """Do what a command says; false when it is to leave."""
        if command in ("exit", "quit"):
            return False
        if command == "reset":
            self.messages.clear()
        elif command == "system":
            self.settings = replace(self.settings, system=rest.strip())
            self.messages.clear()
        elif command == "undo":
            del self.messages[-2:]
        elif command == "regenerate" and self.messages:
            prompt = self.messages[-2]["content"]
            del self.messages[-2:]
            self._say(prompt, self.attempt + 1)
        elif command == "set":
            self._set(*rest.split())
        else:
            self._note(HELP)
        return True

    def _set(self, name: str = "", value: str = "", *_: str) -> None:
        kinds = {"temperature": float, "top_p": float, "max_tokens": int, "seed": int}
        try:
            self.settings = replace(self.settings, **{name: kinds[name](value)})
        except (KeyError, ValueError):
            self._note(f"/set takes one of {', '.join(kinds)} and a number.")
        except UserError as error:
            self._note(str(error))

    def _say(self, prompt: str, attempt: int = 0) -> None:
        """Put *prompt* to the model and print the reply as it comes; ^C stops it, and what is there counts."""
        self.attempt = attempt
        asked = [*self.messages, Message(role="user", content=prompt)]
        settings = replace(self.settings, seed=self.settings.seed + attempt)
        reply, stopped = Reply(self.entry.id), threading.Event()
        with suppress(KeyboardInterrupt):
            for snapshot in stream_reply(self.models, self.entry.id, asked, settings, stopped.is_set):
                print(snapshot.text[len(reply.text) :], end="", flush=True)
                reply = snapshot
        stopped.set()
        print(flush=True)
        if reply.error:
            self._note(reply.error)
        elif reply.text:
            self.messages = [*asked, Message(role="assistant", content=reply.text)]
            self._note(_measured(reply))

    def _note(self, said: str) -> None:
        self.console.print(Text(said, style="dim"))


def _measured(reply: Reply) -> str:
    """What is worth knowing about a reply, in one line."""
    parts = [f"{reply.tokens} tokens", f"{reply.tokens_per_s:.0f} tokens/s"]
    if reply.reward is not None:
        parts.append(f"reward {reply.reward:+.2f}")
    if reply.percentile is not None:
        parts.append(f"better than {reply.percentile:.0f} % of the SFT replies")
    if reply.dropped:
        parts.append(f"{reply.dropped} oldest turns left out")
    if reply.finish == "length":
        parts.append("cut off (max_tokens)")
    return " · ".join(parts)


def _line_reader() -> Callable[[], str]:
    """Asks on a terminal, with history and editing where there is readline; reads plain lines from a pipe."""
    if not sys.stdin.isatty():
        return input
    with suppress(ImportError):
        import readline  # noqa: F401
    return lambda: input("› ")
