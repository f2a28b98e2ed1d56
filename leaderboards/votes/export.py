"""Votes → files: preference rows to train on, and the votes and conversations as they are. A line each, UTF-8."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from modelkit import atomic
from modelkit.fingerprint import sha256_of_messages
from modelkit.records import Preference, Vote

Part = Literal["train", "held-out", "all"]
SOURCE = "votes"
_HELD_OUT_OF = 5
"""One in so many prompts is kept from training, so that agreement can be measured on votes the reward model has not seen."""


def held_out(vote: Vote) -> bool:
    """Whether a vote is kept from training. It depends on the prompt alone: all votes about one are on the same side."""
    return int(sha256_of_messages(vote.prompt).removeprefix("sha256:")[:8], 16) % _HELD_OUT_OF == 0


def part_of(votes: Iterable[Vote], part: Part) -> Iterator[Vote]:
    """The votes of one part."""
    return (vote for vote in votes if part == "all" or held_out(vote) == (part == "held-out"))


def no_preference(vote: Vote) -> str | None:
    """Why a vote prefers nothing that could be trained on or measured; ``None`` when it does."""
    if vote.decided is None:
        return vote.winner.replace("_", " ")
    replies = vote.a.reply, vote.b.reply
    if vote.a.messages[:-1] != vote.b.messages[:-1]:
        return "different prompts"
    if replies[0] == replies[1]:
        return "equal replies"
    if not all(reply.strip() for reply in replies):
        return "an empty reply"
    return "a NUL character" if any("\0" in text for text in (*replies, *(m["content"] for m in vote.prompt))) else None


def write_preferences(votes: Iterable[Vote], file: Path) -> Counter[str]:
    """Write a canonical preference row (``trainers data check`` reads it) for every vote that prefers one reply.

    Returns how many votes became ``rows``, and how many didn't by the reason. The file appears when it is whole.
    """
    counted: Counter[str] = Counter(rows=0)
    with atomic.text_file(file) as out:
        for vote in votes:
            why = no_preference(vote)
            counted[why or "rows"] += 1
            if why is None and vote.decided:
                better, worse = vote.decided
                row = Preference(messages=vote.prompt, chosen=better.reply, rejected=worse.reply, source=SOURCE).model_dump()
                out.write(json.dumps(row | ({"category": vote.category} if vote.category else {}), ensure_ascii=False) + "\n")
    return counted


def write_records(records: Iterable[BaseModel], file: Path) -> int:
    """Write every record as it is, and return their number. The file appears when it is whole."""
    with atomic.text_file(file) as out:
        return sum(bool(out.write(record.model_dump_json() + "\n")) for record in records)
