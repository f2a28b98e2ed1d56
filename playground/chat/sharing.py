"""Chats that a visitor lets the operator keep: made of a board only once they have agreed to a sentence, under a name of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from modelkit.chat import Message
from modelkit.records import Conversation
from playground.chat.conversation import Board
from playground.prompts import Prompt
from playground.settings import COLUMNS


def names(visitor: str) -> list[str]:
    """What the columns' conversations are called in the store: all that was kept of one visitor."""
    return [f"{visitor}-{column + 1}" for column in range(COLUMNS)]


def conversations(board: Board, visitor: str, consent: str, time: float, fingerprint: Callable[[str], str]) -> Iterator[Conversation]:
    """Each column's conversation up to its last finished reply.

    :param consent: the sentence that the visitor has agreed to.
    :param time: seconds since 1970.
    :param fingerprint: that of the checkpoint with an id; empty for a model that is served elsewhere.
    """
    for column, name in enumerate(names(visitor)):
        for place in reversed(range(len(board.rounds))):
            reply = board.rounds[place].replies.get(column)
            if reply and reply.phase == "done" and reply.answered:
                system = reply.settings.system if reply.settings else ""
                lead = [Message(role="system", content=system)] if system else []
                yield Conversation(
                    id=name,
                    time=time,
                    session=visitor,
                    consent=consent,
                    checkpoint=reply.checkpoint,
                    fingerprint=fingerprint(reply.checkpoint),
                    messages=[*lead, *board.messages(column, place), Message(role="assistant", content=reply.text)],
                    language=Prompt.of(board.rounds[place].prompt).language,
                )
                break
