"""A battle: two checkpoints answer one prompt, a person who doesn't know them says which reply is better, then their names are shown.

Pure: a battle never changes. What happens to it makes the next one, or is refused with a sentence.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from modelkit.chat import Message
from modelkit.errors import UserError
from modelkit.fingerprint import sha256_of_messages
from modelkit.records import Side, Vote
from playground.chat.replies import Reply
from playground.chat.settings import ChatSettings
from playground.prompts import Prompt

Winner = Literal["a", "b", "tie", "both_bad"]
Phase = Literal["writing", "voting", "broken", "revealed"]

_TEMPERATURES = (0.6, 0.8, 1.0)
_SEEDS = 1 << 31


@dataclass(frozen=True)
class Lineup:
    """Who answers: A's and B's checkpoint, and how each samples. Both sample alike, with a seed of their own."""

    checkpoints: tuple[str, str]
    settings: tuple[ChatSettings, ChatSettings]


def draw(visitor: str, number: int, pairs: Sequence[tuple[str, str]]) -> Lineup:
    """The line-up of a visitor's battle, one of *pairs* of checkpoints. The same visitor and number always give the same.

    Every pair comes once before any comes again, in a new order each time round; which of the two is A is a coin's choice.
    """
    order = list(pairs)
    random.Random(f"{visitor} pairs {number // len(order)}").shuffle(order)
    coin = random.Random(f"{visitor} battle {number}")
    a, b = order[number % len(order)]
    temperature = coin.choice(_TEMPERATURES)
    first, second = (ChatSettings(temperature=temperature, seed=coin.randrange(_SEEDS)) for _ in range(2))
    return Lineup((a, b) if coin.random() < 0.5 else (b, a), (first, second))


@dataclass(frozen=True)
class Battle:
    """One battle. ``ready`` is when the second reply was there, ``seconds`` from then to the vote, on any clock."""

    id: str
    prompt: Prompt
    lineup: Lineup
    replies: tuple[Reply, Reply]
    ready: float | None = None
    winner: Winner | None = None
    seconds: float | None = None

    @classmethod
    def begun(cls, name: str, prompt: Prompt, lineup: Lineup) -> Battle:
        """A battle in which nothing is written yet."""
        first, second = lineup.checkpoints
        return cls(name, prompt, lineup, (Reply(first), Reply(second)))

    @property
    def phase(self) -> Phase:
        """Writing until both replies are there; then voting, until it is revealed. Broken when a reply failed or was stopped."""
        if self.winner:
            return "revealed"
        if any(reply.error or reply.finish == "cancelled" for reply in self.replies):
            return "broken"
        return "writing" if self.ready is None else "voting"

    @property
    def votes(self) -> tuple[Winner, ...]:
        """The votes that can be cast now: of two equal texts neither is better."""
        if self.phase != "voting":
            return ()
        return ("tie", "both_bad") if self.replies[0].text == self.replies[1].text else get_args(Winner)

    def heard(self, side: int, reply: Reply, now: float) -> Battle:
        """What one side has written so far. Once it has finished it says no more."""
        if self.replies[side].phase == "done":
            return self
        told = self._with(side, reply)
        return replace(told, ready=now if all(reply.phase == "done" for reply in told.replies) else None)

    def failed(self, side: int, error: str) -> Battle:
        """One side has failed, for a reason that a visitor may read: there is nothing to vote on."""
        return self._with(side, replace(self.replies[side], phase="done", error=error))

    def voted(self, winner: Winner, now: float) -> Battle:
        """The same, revealed.

        :raises UserError: unless both replies are there and nobody has voted, and when one of two equal texts is preferred.
        """
        if self.phase == "revealed":
            raise UserError("this vote has been counted already; the names are known now.")
        if self.phase != "voting" or self.ready is None:
            raise UserError("a vote needs both replies, finished.")
        if winner not in self.votes:
            raise UserError("both said the same: vote for a tie, or say that both are bad.")
        return replace(self, winner=winner, seconds=max(0.0, now - self.ready))

    def vote(self, visitor: str, time: float, fingerprint: Callable[[str], str]) -> Vote:
        """What the store keeps of a battle that is revealed.

        :param time: seconds since 1970.
        :param fingerprint: that of the checkpoint with an id.
        """
        if self.winner is None:
            raise UserError("nobody has voted yet.")
        a, b = (self._side(reply, settings.seed, fingerprint) for reply, settings in zip(self.replies, self.lineup.settings, strict=True))
        settings, judge = self.lineup.settings[0], self.replies[0].judge
        return Vote(
            id=self.id,
            time=time,
            session=visitor,
            a=a,
            b=b,
            winner=self.winner,
            language=self.prompt.language,
            category=self.prompt.category,
            sampling={"temperature": settings.temperature, "top_p": settings.top_p, "max_tokens": settings.max_tokens},
            reward_model=fingerprint(judge) if judge else None,
            seconds=self.seconds,
        )

    def _with(self, side: int, reply: Reply) -> Battle:
        a, b = self.replies
        return replace(self, replies=(reply, b) if side == 0 else (a, reply))

    def _side(self, reply: Reply, seed: int, fingerprint: Callable[[str], str]) -> Side:
        messages = [Message(role="user", content=self.prompt.text), Message(role="assistant", content=reply.text)]
        return Side(
            checkpoint=reply.checkpoint,
            fingerprint=fingerprint(reply.checkpoint),
            messages=messages,
            sha256=sha256_of_messages(messages),
            seed=seed,
            reward=reply.reward if reply.reward is not None and math.isfinite(reply.reward) else None,
            tokens=reply.tokens,
            seconds=reply.seconds,
            finish=reply.finish,
        )
