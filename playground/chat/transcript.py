"""A conversation to take away: a JSON line for every reply, or one Markdown page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from playground.chat.conversation import Board
from playground.chat.replies import Reply
from playground.reward_bar import signed
from playground.texts import Language, t
from playground.writers import Writers


def jsonl(board: Board) -> str:
    """One row for every finished reply: who wrote it, the whole conversation with it at the end, its reward, and how to draw it again."""
    return "".join(json.dumps(_row(board, *place), ensure_ascii=False) + "\n" for place in _replies(board))


def markdown(board: Board, writers: Writers, language: Language) -> str:
    """The rounds with a section for every reply, fenced so that nothing in it is taken for a heading."""
    titles = {choice.id: choice.title for choice in writers.choices(language)}
    parts = [f"# {t(language, 'title')}"]
    last = -1
    for place, _, reply in _replies(board):
        if place != last:
            parts.append(f"## {place + 1}\n\n{_quoted(board.rounds[place].prompt)}")
            last = place
        facts = [t(language, "reply.tokens", count=reply.tokens)]
        if reply.reward is not None:
            facts.insert(0, t(language, "reply.raw", reward=signed(reply.reward)))
        if reply.percentile is not None:
            facts.insert(1, t(language, "reply.percentile", percent=f"{reply.percentile:.0f}"))
        name = titles.get(reply.checkpoint, reply.checkpoint)
        parts.append(f"### {name}\n\n{_quoted(reply.text or t(language, 'reply.empty'))}\n\n{' · '.join(facts)}")
    return "\n\n".join(parts) + "\n"


def _replies(board: Board) -> Iterator[tuple[int, int, Reply]]:
    for place, asked in enumerate(board.rounds):
        for column, reply in sorted(asked.replies.items()):
            if reply.phase == "done" and reply.error is None:
                yield place, column, reply


def _row(board: Board, place: int, column: int, reply: Reply) -> dict[str, Any]:
    settings = asdict(reply.settings) if reply.settings else {}
    system = [{"role": "system", "content": settings["system"]}] if settings.get("system") else []
    told = ("reward", "percentile", "judge", "finish", "tokens", "seconds", "dropped", "picked")
    return {
        "format": 1,
        "round": place + 1,
        "column": column + 1,
        "checkpoint": reply.checkpoint,
        "messages": [*system, *board.messages(column, place), {"role": "assistant", "content": reply.text}],
        **{name: getattr(reply, name) for name in told},
        "candidates": [asdict(candidate) for candidate in reply.candidates],
        "attempt": board.rounds[place].attempts.get(column, 0),
        "sampling": {name: value for name, value in settings.items() if name != "system"},
    }


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.splitlines())
