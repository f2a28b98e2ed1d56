"""What a visitor has asked and what the columns said: rounds of replies; stop, regenerate, edit, undo, pick and clear.

A message goes to every column. Each column answers in a thread of its own, can be stopped and asked again by itself, and remembers
only the rounds that it took part in.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from modelkit.chat import Message
from modelkit.errors import UserError
from playground.chat.replies import Reply
from playground.chat.settings import ChatSettings, Setting
from playground.settings import COLUMNS, MAX_CANDIDATES, MAX_PROMPT_CHARACTERS, MAX_ROUNDS


class Writer(Protocol):
    """Answers messages (the last one the user's) as a stream of snapshots; see :func:`playground.chat.replies.stream_reply`."""

    def __call__(
        self, checkpoint: str, messages: Sequence[Message], settings: ChatSettings, cancelled: Callable[[], bool]
    ) -> Iterator[Reply]: ...


@dataclass
class Round:
    """A message and the columns' replies to it. ``attempts`` counts each column's regenerations, which draw other random numbers."""

    prompt: str
    replies: dict[int, Reply] = field(default_factory=dict)
    attempts: dict[int, int] = field(default_factory=dict)


@dataclass
class _Task:
    """A column's reply that is wanted (``writing`` once its stream has begun). One that the board has let go of changes nothing more."""

    checkpoint: str
    writing: bool = False
    cancelled: threading.Event = field(default_factory=threading.Event)


class Board:
    """One visitor's rounds and columns. ``setting`` is what the visitor last asked with, ``link`` the address that it came from,
    ``chosen`` who stands at the head of each column now."""

    def __init__(self) -> None:
        self.rounds: list[Round] = []
        self.setting: Setting | None = None
        self.link = ""
        self.chosen: dict[int, str] = {}
        self._tasks: dict[int, _Task] = {}
        self._lock = threading.Lock()

    @property
    def busy(self) -> bool:
        """Whether a column is yet to answer or answering."""
        return bool(self._tasks)

    def at_work(self, column: int) -> bool:
        """Whether this column is yet to answer or answering."""
        return column in self._tasks

    def begin(self, prompt: str, checkpoints: Sequence[str | None]) -> bool:
        """Put *prompt* to every column that has a checkpoint; false when it is blank or the columns are busy.

        :raises UserError: when the prompt is too long, or the conversation.
        """
        prompt = _checked(prompt)
        with self._lock:
            if self.busy or not prompt or not any(checkpoints):
                return False
            if len(self.rounds) >= MAX_ROUNDS:
                raise UserError(f"this chat has {MAX_ROUNDS} messages, which is as long as it may get: clear it and begin anew.")
            self.rounds.append(Round(prompt))
            self._ask(_columns(checkpoints))
            return True

    def again(self, checkpoints: Sequence[str | None], column: int | None = None) -> bool:
        """Ask the last message once more, of one column or of all; false when there is none, or the columns meant are busy."""
        with self._lock:
            asked = {place: name for place, name in _columns(checkpoints).items() if column in (None, place)}
            if not self.rounds or not asked or (self.busy if column is None else column in self._tasks):
                return False
            last = self.rounds[-1]
            for place in last.replies.keys() & asked:
                last.attempts[place] = last.attempts.get(place, 0) + 1
            self._ask(asked)
            return True

    def edit(self, place: int, prompt: str, checkpoints: Sequence[str | None]) -> bool:
        """Ask something else in round *place*, which ends what is being written and forgets that round and those after it.

        :raises UserError: when the prompt is too long.
        """
        prompt = _checked(prompt)
        with self._lock:
            if not 0 <= place < len(self.rounds) or not prompt or not any(checkpoints):
                return False
            self._let_go()
            del self.rounds[place:]
            self.rounds.append(Round(prompt))
            self._ask(_columns(checkpoints))
            return True

    def undo(self) -> str | None:
        """Take the last message back and return it; what is being written to it ends."""
        with self._lock:
            self._let_go()
            return self.rounds.pop().prompt if self.rounds else None

    def pick(self, place: int, column: int, candidate: int) -> bool:
        """Go on with another of a reply's candidates; false unless it is the last round's and the column has finished."""
        with self._lock:
            if place < 0 or place != len(self.rounds) - 1 or column in self._tasks or column not in self.rounds[place].replies:
                return False
            reply = self.rounds[place].replies[column]
            if not 0 <= candidate < len(reply.candidates):
                return False
            self.rounds[place].replies[column] = reply.picking(candidate)
            return True

    def stop(self, column: int | None = None) -> None:
        """End one column's reply, or all: what writes stops within one decoding step, what has yet to begin will not."""
        with self._lock:
            for place, task in list(self._tasks.items()):
                if column in (None, place):
                    task.cancelled.set()
                    if not task.writing:
                        self.rounds[-1].replies[place] = Reply(task.checkpoint, phase="done", finish="cancelled")
                        del self._tasks[place]

    def clear(self) -> None:
        """Stop, and forget everything said."""
        with self._lock:
            self._let_go()
            self.rounds = []

    def answer(self, column: int, write: Writer, settings: ChatSettings) -> Iterator[Reply]:
        """Let one column answer the last message, yielding its reply whenever it has changed.

        Yields nothing when the column isn't waiting. Closing the iterator (a visitor has left) ends the work.
        """
        with self._lock:
            task = self._tasks.get(column)
            if task is None or task.writing:
                return
            task.writing = True
            this = self.rounds[-1]
            messages = self.messages(column)
        settings = replace(settings, seed=settings.seed + this.attempts.get(column, 0) * MAX_CANDIDATES)
        reply = Reply(task.checkpoint)
        try:
            for reply in write(task.checkpoint, messages, settings, task.cancelled.is_set):
                if not self._keep(column, task, this, reply):
                    return
                yield reply
        finally:
            if reply.phase != "done":
                self._keep(column, task, this, replace(reply, phase="done", finish="cancelled"))
            with self._lock:
                if self._tasks.get(column) is task:
                    del self._tasks[column]

    def fail(self, column: int, error: str) -> None:
        """Put a sentence in the place of the last reply, which something unforeseen has ended."""
        with self._lock:
            if self.rounds and column in self.rounds[-1].replies:
                self.rounds[-1].replies[column] = replace(self.rounds[-1].replies[column], phase="done", error=error)

    def messages(self, column: int, place: int | None = None) -> list[Message]:
        """What a column is shown: the rounds it has answered before round *place* (by default the last), and that round's message."""
        until = len(self.rounds) - 1 if place is None else place
        history: list[Message] = []
        for earlier in self.rounds[:until]:
            reply = earlier.replies.get(column)
            if reply and reply.answered:
                history += [Message(role="user", content=earlier.prompt), Message(role="assistant", content=reply.text)]
        return [*history, Message(role="user", content=self.rounds[until].prompt)]

    def _ask(self, asked: dict[int, str]) -> None:
        for column, checkpoint in asked.items():
            self.rounds[-1].replies[column] = Reply(checkpoint)
            self.chosen[column] = checkpoint
            self._tasks[column] = _Task(checkpoint)

    def _keep(self, column: int, task: _Task, this: Round, reply: Reply) -> bool:
        with self._lock:
            if self._tasks.get(column) is not task:
                return False
            this.replies[column] = reply
            return True

    def _let_go(self) -> None:
        for task in self._tasks.values():
            task.cancelled.set()
        self._tasks.clear()


def _columns(checkpoints: Sequence[str | None]) -> dict[int, str]:
    return {column: checkpoint for column, checkpoint in enumerate(checkpoints[:COLUMNS]) if checkpoint}


def _checked(prompt: str) -> str:
    prompt = prompt.strip()
    if len(prompt) > MAX_PROMPT_CHARACTERS:
        raise UserError(f"the message has {len(prompt):,} characters, more than the {MAX_PROMPT_CHARACTERS:,} allowed: shorten it.")
    return prompt
