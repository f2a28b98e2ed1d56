"""Each visitor's battles, one at a time: what is drawn, who writes, what is voted, and how often the reward model agreed."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Generator
from dataclasses import replace
from itertools import combinations
from typing import Protocol

from leaderboards.votes.store import Tally
from modelkit.errors import UserError
from modelkit.fingerprint import fingerprint
from modelkit.records import Vote
from playground.arena.battle import Battle, Winner, draw
from playground.chat.conversation import Writer
from playground.chat.replies import Reply
from playground.entries import written
from playground.models import Models
from playground.prompts import Prompt, prompts, queued
from playground.settings import MAX_PROMPT_CHARACTERS
from playground.texts import Language

_MOST = 1000


class Ballot(Protocol):
    """Where votes go: a :class:`leaderboards.votes.store.Store`."""

    def add(self, vote: Vote) -> None: ...

    def tally(self, reward_model: str) -> Tally: ...


class Arena:
    """One visitor's arena. Its name is random and is all that a vote says of who cast it."""

    def __init__(self, visitor: str | None = None) -> None:
        self.visitor = visitor or secrets.token_hex(8)
        self.battle: Battle | None = None
        self.vote: Vote | None = None
        self.tally = Tally(0, 0)
        self._battles = self._queued = 0
        self._written: dict[str, int] = {}
        self._cancelled = threading.Event()
        self._writing: set[int] = set()
        self._lock = threading.Lock()

    def begin(self, models: Models, typed: str | None = None, language: Language | None = None) -> Battle:
        """Go on to the next battle, about what the visitor has *typed* or else the next prompt in the queue; what was being written ends.

        :param language: take only prompts of this language from the queue.
        :raises UserError: when the prompt is too long or no text, or there are fewer than two checkpoints.
        """
        pairs = contests(models)
        if not pairs:
            raise UserError("the arena needs two checkpoints of one run that can write, and there are not as many yet.")
        with self._lock:
            lineup = draw(self.visitor, self._battles, pairs)
            if typed is None:
                run = models.entry(lineup.checkpoints[0]).run
                offered = [one for one in prompts(run) if language in (None, one.language)]
                prompt = queued(offered, self.visitor, self._queued)
                self._queued += 1
            else:
                prompt = Prompt.of(_checked(typed))
            self._cancelled.set()
            self._cancelled, self._writing = threading.Event(), set()
            self._battles += 1
            self.vote = None
            self._written = {entry.id: written(entry.path) for entry in models.catalogue()}
            self.battle = Battle.begun(secrets.token_hex(8), prompt, lineup)
            return self.battle

    def answer(self, side: int, write: Writer) -> Generator[Battle, None, None]:
        """Let one side of the battle answer, yielding the battle whenever its reply has changed.

        Yields nothing when that side has answered or is answering. Closing the iterator (a visitor has left) ends the work.
        """
        with self._lock:
            battle, cancelled = self.battle, self._cancelled
            if battle is None or side in self._writing:
                return
            self._writing.add(side)
        settings, checkpoint = battle.lineup.settings[side], battle.lineup.checkpoints[side]
        reply = battle.replies[side]
        try:
            for reply in write(checkpoint, [{"role": "user", "content": battle.prompt.text}], settings, cancelled.is_set):
                heard = self._heard(battle.id, side, reply)
                if heard is None:
                    return
                yield heard
        finally:
            if reply.phase != "done":
                self._heard(battle.id, side, replace(reply, phase="done", finish="cancelled"))

    def fail(self, battle: str, side: int, error: str) -> None:
        """Put a sentence in the place of a reply, which something unforeseen has ended."""
        with self._lock:
            if self.battle and self.battle.id == battle:
                self.battle = self.battle.failed(side, error)

    def choose(self, winner: Winner, models: Models, ballot: Ballot) -> Vote:
        """Vote. The names are revealed once the vote is kept, and not before.

        :raises UserError: when it isn't the time to vote, a checkpoint or its reward model has been trained anew since the battle
            began, so that nobody can say which weights the vote is about, or the vote can't be kept.
        """
        with self._lock:
            if self.battle is None:
                raise UserError("there is nothing to vote on yet: take a prompt first.")
            decided = self.battle.voted(winner, time.monotonic())
            vote = decided.vote(self.visitor, time.time(), lambda checkpoint: fingerprint(models.entry(checkpoint).path))
            used = {name for reply in decided.replies for name in (reply.checkpoint, reply.judge) if name}
            if any(written(models.entry(name).path) != self._written.get(name) for name in used):
                raise UserError("a model was trained anew since this battle began, so a vote would be about others: take the next prompt.")
            ballot.add(vote)
            self.battle, self.vote = decided, vote
            if vote.agreed is not None:
                self.tally = Tally(self.tally.agreed + vote.agreed, self.tally.n + 1)
            return vote

    def stop(self) -> None:
        """End what is being written."""
        self._cancelled.set()

    def _heard(self, battle: str, side: int, reply: Reply) -> Battle | None:
        """The battle with this reply; ``None`` once the visitor has gone on to another."""
        with self._lock:
            if self.battle is None or self.battle.id != battle:
                return None
            self.battle = self.battle.heard(side, reply, time.monotonic())
            return self.battle


class Arenas:
    """The arenas of all visitors, by the session of their page. Of too many, those without a battle go first, then those long unused."""

    def __init__(self, arena: Callable[[], Arena] = Arena) -> None:
        self._arena = arena
        self._arenas: OrderedDict[str, Arena] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, session: str) -> Arena:
        """The session's arena, made when it is first asked for."""
        with self._lock:
            arena = self._arenas.get(session) or self._arenas.setdefault(session, self._arena())
            self._arenas.move_to_end(session)
            if len(self._arenas) > _MOST:
                idle = (name for name, other in self._arenas.items() if other.battle is None and other is not arena)
                self._arenas.pop(next(idle, next(iter(self._arenas)))).stop()
            return arena

    def leave(self, session: str) -> None:
        """A page was closed: stop what still runs for it."""
        with self._lock:
            arena = self._arenas.pop(session, None)
        if arena:
            arena.stop()


def contests(models: Models) -> list[tuple[str, str]]:
    """All pairs of checkpoints that can write and belong to the same run, whose reward model can then judge both."""
    entries = [entry for entry in models.catalogue() if entry.run and entry.kind != "reward"]
    return [(one.id, other.id) for one, other in combinations(entries, 2) if one.run == other.run]


def _checked(typed: str) -> str:
    text = typed.strip()
    if not text:
        raise UserError("type a message first, or take a prompt from the queue.")
    if len(text) > MAX_PROMPT_CHARACTERS:
        raise UserError(f"the message has {len(text):,} characters, more than the {MAX_PROMPT_CHARACTERS:,} allowed: shorten it.")
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise UserError("the message holds characters that are no text: type it anew.")
    return text
