"""Exported votes as matches for a judge: the very replies that people compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from evalkit.extraction import same_language
from evalkit.judge.answers import Answer
from evalkit.judge.formats import objects, text_of
from evalkit.judge.prompt_set import Language, Prompt
from modelkit.errors import DataError
from modelkit.records import Side, Vote


@dataclass(frozen=True)
class Voted:
    """Votes, the two replies of each, and what was asked. A prompt has the vote's id."""

    votes: list[Vote]
    matches: list[tuple[Answer, Answer]]
    prompts: dict[tuple[str, str], Prompt]

    @classmethod
    def read(cls, file: Path) -> Voted:
        """The votes of a JSONL file, without rejected ones.

        :raises DataError: for a line that is no vote, and when there is none at all.
        """
        votes = []
        for place, entry in objects(text_of(file), str(file)):
            try:
                votes.append(Vote.model_validate(entry))
            except ValidationError as error:
                raise DataError(
                    f"{place} is no vote ({error.errors()[0]['msg']}): export votes with `leaderboards votes export`."
                ) from None
        votes = [vote for vote in votes if vote.status != "rejected"]
        if not votes:
            raise DataError(f"{file} holds no votes: export some with `leaderboards votes export`.")
        prompts = {prompt.key: prompt for prompt in map(_prompt, votes)}
        return cls(votes, [(_answer(vote, vote.a), _answer(vote, vote.b)) for vote in votes], prompts)


def _prompt(vote: Vote) -> Prompt:
    turns = [message["content"] or " " for message in vote.a.messages if message["role"] == "user"]
    return Prompt(id=vote.id, language=_language(vote), category=vote.category or "general", turns=[turn.strip() or "?" for turn in turns])


def _answer(vote: Vote, side: Side) -> Answer:
    return Answer(
        model=side.checkpoint,
        fingerprint=side.fingerprint,
        prompt=vote.id,
        language=_language(vote),
        category=vote.category or "general",
        turn=sum(message["role"] == "user" for message in side.messages),
        messages=side.messages,
        tokens=side.tokens,
        finish=side.finish,
    )


def _language(vote: Vote) -> Language:
    if vote.language is not None:
        return vote.language
    said = next((message["content"] for message in reversed(vote.a.messages) if message["role"] == "user"), "")
    return "en" if same_language("text", said) else "zh"
