"""Which of the new votes may be trained on: rules against haste, repetition and one voice that drowns out the others.

Votes are a way for strangers into the training data. These rules hold back what is surely of no use; looking at the rest, before and
after, stays with the operator.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from modelkit.records import Vote

LETTERS_PER_SECOND = 1 / 0.068
"""Reading aloud, 68 ms a character: the mean of 14 languages in Trauzettel-Klosinski & Dietz (2012)."""
LETTERS_PER_HAN_CHARACTER = 4
"""A Chinese character says about as much as so many letters."""


@dataclass(frozen=True)
class Rules:
    """What a vote must keep to.

    :param per_session: most votes accepted of one session, earlier ones counted.
    :param per_prompt: most votes accepted about one prompt, earlier ones counted.
    :param haste: a vote is too fast when it took less than this share of reading both replies aloud: people skim.
    """

    per_session: int = 50
    per_prompt: int = 20
    haste: float = 0.2


@dataclass
class Sorted:
    """The ids of the votes that keep to the rules, and of the others by what holds each back."""

    accepted: list[str] = field(default_factory=list)
    held_back: dict[str, list[str]] = field(default_factory=dict)


def sort_out(votes: Iterable[Vote], rules: Rules) -> Sorted:
    """Judge the new ones among *votes* (all there are, oldest first); those accepted already, older or newer, count towards the caps.

    A vote is held back for the first of these that is true of it: ``not blind``, ``untimed``, ``too fast``, ``duplicate`` (the same
    session has voted on the same two replies), ``session full``, ``prompt full``.
    """
    votes, found = list(votes), Sorted()
    accepted = [vote for vote in votes if vote.status == "accepted"]
    sessions = Counter(vote.session for vote in accepted)
    prompts = Counter(vote.prompt[-1]["content"] for vote in accepted)
    seen: set[tuple[str, ...]] = set()
    for vote in votes:
        prompt = vote.prompt[-1]["content"]
        pair = (vote.session, *sorted((vote.a.sha256, vote.b.sha256)))
        if vote.status == "new":
            why = (
                _in_itself(vote, rules)
                or ("duplicate" if pair in seen else None)
                or ("session full" if sessions[vote.session] >= rules.per_session else None)
                or ("prompt full" if prompts[prompt] >= rules.per_prompt else None)
            )
            if why:
                found.held_back.setdefault(why, []).append(vote.id)
            else:
                found.accepted.append(vote.id)
                sessions[vote.session] += 1
                prompts[prompt] += 1
        seen.add(pair)
    return found


def _in_itself(vote: Vote, rules: Rules) -> str | None:
    if not vote.blind:
        return "not blind"
    if vote.seconds is None:
        return "untimed"
    return "too fast" if vote.seconds < rules.haste * reading_seconds(vote) else None


def reading_seconds(vote: Vote) -> float:
    """How long reading both replies aloud takes, in seconds."""
    return sum(map(_letters, (vote.a.reply, vote.b.reply))) / LETTERS_PER_SECOND


def _letters(text: str) -> int:
    han = sum("\u4e00" <= character <= "\u9fff" for character in text)
    return len(text) + han * (LETTERS_PER_HAN_CHARACTER - 1)
