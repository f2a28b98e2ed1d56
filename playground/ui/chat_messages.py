"""A column's conversation as the chat component wants it: what was asked, what was replied, and below that the reply's card."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from playground import fragments
from playground.chat.conversation import Board, Round
from playground.chat.reply_card import Neighbour, reply_card
from playground.texts import Language
from playground.writers import Writers


@dataclass(frozen=True)
class View:
    """A board as one visitor reads it. ``titles`` are those of all that can be chosen, by id."""

    board: Board
    language: Language
    titles: dict[str, str]

    @classmethod
    def of(cls, board: Board, writers: Writers, language: Language) -> View:
        """The board with the titles that its checkpoints have now."""
        return cls(board, language, {choice.id: choice.title for choice in writers.choices(language)})

    def column(self, column: int) -> list[Any]:
        """All messages of a column."""
        return [message for place in range(len(self.board.rounds)) for message in self.round(place, column)]

    def round(self, place: int, column: int) -> list[dict[str, Any]]:
        """The messages of one round; none where the column took no part in it, or the round was taken back meanwhile."""
        asked = next(iter(self.board.rounds[place : place + 1]), None)
        reply = asked.replies.get(column) if asked else None
        if asked is None or reply is None:
            return []
        messages: list[dict[str, Any]] = [
            {"role": "user", "content": fragments.safe_markdown(asked.prompt)},
            {"role": "assistant", "content": fragments.reply_text(self.language, reply)},
        ]
        if reply.phase == "done" and not reply.error:
            last = place == len(self.board.rounds) - 1 and not self.board.at_work(column)
            pick = f"{place}.{column}" if last and len(reply.candidates) > 1 else None
            writer = self._title(reply.checkpoint) if reply.checkpoint != self.board.chosen.get(column) else None
            card = reply_card(self.language, reply, self._neighbour(asked, column), writer, pick)
            messages.append({"role": "assistant", "content": gr.HTML(card)})
        return messages

    def place_of(self, column: int, message: int) -> int:
        """The round that the message at an index of :meth:`column` belongs to."""
        ends = 0
        for place in range(len(self.board.rounds)):
            ends += len(self.round(place, column))
            if message < ends:
                return place
        return len(self.board.rounds)

    def _neighbour(self, asked: Round, column: int) -> Neighbour | None:
        """The nearest reply to the left that is finished."""
        for left in range(column - 1, -1, -1):
            reply = asked.replies.get(left)
            if reply and reply.phase == "done" and reply.reward is not None:
                return Neighbour(reply, self._title(reply.checkpoint))
        return None

    def _title(self, checkpoint: str) -> str:
        return self.titles.get(checkpoint, checkpoint)
