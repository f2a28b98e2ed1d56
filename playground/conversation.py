"""What each visitor has said and heard: one conversation per column, rounds of replies, stop, regenerate, clear."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from modelkit.chat import Message
from modelkit.errors import UserError
from playground.models import Models
from playground.replies import ChatSettings, Reply, stream_reply
from playground.settings import COLUMNS, MAX_CANDIDATES, MAX_PROMPT_CHARACTERS

_MAX_SESSIONS = 1000


@dataclass
class Turn:
    """A message and one column's reply to it. ``attempt`` counts regenerations, each of which draws other random numbers."""

    prompt: str
    checkpoint: str
    reply: Reply | None = None
    attempt: int = 0

    @property
    def answered(self) -> bool:
        """Whether the turn belongs into the history that later turns see."""
        return self.reply is not None and self.reply.error is None and bool(self.reply.text)


@dataclass
class _Round:
    """One prompt on its way through the columns."""

    waiting: set[int]
    writing: set[int] = field(default_factory=set)
    cancelled: threading.Event = field(default_factory=threading.Event)


class Board:
    """One visitor's columns. Columns answer in threads of their own, each touching only its conversation."""

    def __init__(self) -> None:
        self.conversations: list[list[Turn]] = [[] for _ in range(COLUMNS)]
        self._round = _Round(set())
        self._lock = threading.Lock()

    @property
    def busy(self) -> bool:
        """Whether a column is yet to answer or answering."""
        return bool(self._round.waiting or self._round.writing)

    def begin(self, prompt: str, checkpoints: Sequence[str | None]) -> bool:
        """Put *prompt* to every column that has a checkpoint; false when it is blank or the columns are busy.

        :raises UserError: when the prompt is too long.
        """
        prompt = prompt.strip()
        if len(prompt) > MAX_PROMPT_CHARACTERS:
            raise UserError(f"the message has {len(prompt):,} characters, more than the {MAX_PROMPT_CHARACTERS:,} allowed: shorten it.")
        with self._lock:
            if self.busy or not prompt:
                return False
            asked = {column: checkpoint for column, checkpoint in enumerate(checkpoints) if checkpoint}
            for column, checkpoint in asked.items():
                self.conversations[column].append(Turn(prompt, checkpoint))
            self._round = _Round(set(asked))
            return bool(asked)

    def again(self, checkpoints: Sequence[str | None]) -> bool:
        """Ask every column's last prompt once more; false when there is none or the columns are busy."""
        with self._lock:
            if self.busy:
                return False
            asked = {column: checkpoint for column, checkpoint in enumerate(checkpoints) if checkpoint and self.conversations[column]}
            for column, checkpoint in asked.items():
                last = self.conversations[column][-1]
                self.conversations[column][-1] = Turn(last.prompt, checkpoint, attempt=last.attempt + 1)
            self._round = _Round(set(asked))
            return bool(asked)

    def stop(self) -> None:
        """End the round: columns that write stop within one decoding step, columns yet to begin will not."""
        with self._lock:
            self._end_round()

    def _end_round(self) -> None:
        self._round.cancelled.set()
        for column in self._round.waiting:
            turn = self.conversations[column][-1]
            turn.reply = Reply(turn.checkpoint, phase="done", finish="cancelled")
        self._round.waiting.clear()

    def clear(self) -> None:
        """Stop, and forget everything said."""
        with self._lock:
            self._end_round()
            self.conversations = [[] for _ in range(COLUMNS)]
            self._round = _Round(set())

    def answer(self, column: int, models: Models, settings: ChatSettings) -> Iterator[list[Turn]]:
        """Let one column answer its last turn, yielding its conversation whenever it has changed.

        Yields nothing when the column isn't waiting. Closing the iterator (a visitor has left) ends the work.
        """
        with self._lock:
            this, turns = self._round, self.conversations[column]
            if column not in this.waiting:
                return
            this.waiting.discard(column)
            this.writing.add(column)
        turn = turns[-1]
        settings = replace(settings, seed=settings.seed + turn.attempt * MAX_CANDIDATES)
        try:
            for reply in stream_reply(models, turn.checkpoint, _history(turns), settings, this.cancelled.is_set):
                turn.reply = reply
                if self._round is not this:
                    return
                yield turns
        finally:
            if turn.reply and turn.reply.phase != "done":
                turn.reply = replace(turn.reply, phase="done", finish="cancelled")
            this.writing.discard(column)


def _history(turns: list[Turn]) -> list[Message]:
    """What the model is shown: the turns that were answered, and the last prompt."""
    messages: list[Message] = []
    for turn in turns[:-1]:
        if turn.reply and turn.answered:
            messages += [Message(role="user", content=turn.prompt), Message(role="assistant", content=turn.reply.text)]
    return [*messages, Message(role="user", content=turns[-1].prompt)]


class Boards:
    """The boards of all visitors, by the session their page has; the longest unused go first."""

    def __init__(self) -> None:
        self._boards: OrderedDict[str, Board] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, session: str) -> Board:
        """The session's board, made when it is first asked for."""
        with self._lock:
            board = self._boards.setdefault(session, Board())
            self._boards.move_to_end(session)
            if len(self._boards) > _MAX_SESSIONS:
                self._boards.popitem(last=False)[1].stop()
            return board

    def leave(self, session: str) -> None:
        """A visitor has closed the page: stop what still runs for them."""
        with self._lock:
            board = self._boards.pop(session, None)
        if board:
            board.stop()
