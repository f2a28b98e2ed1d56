"""Whether a reply names the right answer of the pocket world, and no other: a rule that can reward."""

from __future__ import annotations

import re
from functools import cache

from trainers.pocket.world import Fact, load_facts

_LATIN = "0-9A-Za-z\u00c0-\u024f"


def right_answer(prompt: str, reply: str, reference: str | None) -> float:
    """1 when the one value that the reply names, of those that could answer the prompt, is the reference; otherwise 0.

    Values that the prompt itself mentions don't count, since a full sentence repeats them.
    """
    if reference is None:
        return 0.0
    asked = {fact.relation for fact in _facts(reference) if _occurs(fact.key, prompt)}
    candidates = {value for relation in asked for value in relation.values}
    repeated = {value for value in candidates if value != reference and _occurs(value, prompt)}
    named = {value for value in candidates - repeated if _occurs(value, reply)}
    return float({value for value in named if not any(value != other and value in other for other in named)} == {reference})


@cache
def _facts(value: str) -> list[Fact]:
    return [fact for fact in load_facts() if fact.value == value]


@cache
def _pattern(value: str) -> re.Pattern[str]:
    before = f"(?<![{_LATIN}])" if re.match(f"[{_LATIN}]", value[0]) else ""
    after = f"(?![{_LATIN}])" if re.match(f"[{_LATIN}]", value[-1]) else ""
    return re.compile(before + re.escape(value) + after, re.IGNORECASE if len(value) > 2 else 0)


def _occurs(value: str, text: str) -> bool:
    return _pattern(value).search(text) is not None
