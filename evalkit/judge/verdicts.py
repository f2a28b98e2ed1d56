"""What a judge's reply says: the last verdict in it, checked for range; a reply without one is unscored, which is not a low score."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Winner = Literal["a", "b", "tie"]
LOWEST, HIGHEST = 1, 10

_NUMBER = r"\[\[\s*(-?\d+(?:\.\d+)?)\s*分?\s*\]\]"
_OVERALL = re.compile(rf"(?im)^\W*(?:overall|总评).*{_NUMBER}")
_WINNER = re.compile(r"\[\[\s*([ABC])\s*\]\]")
_FENCE = re.compile(r"^```(?:json)?\s*(.*?)\s*```$", re.DOTALL)
_BROKEN = "the judge's object is no whole JSON"
_WINNERS: dict[str, Winner] = {"A": "a", "B": "b", "C": "tie", "TIE": "tie"}


@dataclass(frozen=True)
class Verdict:
    """A score in 1…10, or a winner, with its reason – or ``unscored``, why there is neither."""

    score: float | None = None
    criteria: dict[str, float] = field(default_factory=dict)
    winner: Winner | None = None
    reason: str = ""
    unscored: str | None = None


def score(text: str, criteria: Sequence[str] = ()) -> Verdict:
    """A single answer's verdict: the JSON object that was asked for, else the last ``[[n]]``.

    Where criteria were asked for, the overall score is the last one on a line that is called so; a reply without such lines may
    have one mark only, since a criterion's score is not the whole's.
    """
    found = _object(text)
    if found is not None:
        return _structured_score(found, criteria)
    if text.lstrip().startswith("{"):
        return Verdict(reason=text, unscored=_BROKEN)
    marks = {name: _last(re.compile(rf"(?im)^\W*{re.escape(name)}\b.*{_NUMBER}"), text) for name in criteria}
    given = {name: value for name, value in marks.items() if value is not None and _in_range(value)}
    overall = _last(_OVERALL, text)
    if overall is None and not given:
        overall = _last(re.compile(_NUMBER), text)
    return _scored(overall, given, text.strip())


def winner(text: str) -> Verdict:
    """A comparison's verdict: the JSON object that was asked for, else the last of ``[[A]]``, ``[[B]]`` and ``[[C]]`` (a tie)."""
    found = _object(text)
    if found is not None:
        named = str(found.get("winner", "")).strip().upper()
        if named not in _WINNERS:
            return Verdict(unscored="the judge's object names no winner")
        return Verdict(winner=_WINNERS[named], reason=str(found.get("reason", "")))
    if text.lstrip().startswith("{"):
        return Verdict(reason=text, unscored=_BROKEN)
    marks = _WINNER.findall(text)
    if not marks:
        return Verdict(reason=text.strip(), unscored="the judge's reply names no winner")
    return Verdict(winner=_WINNERS[marks[-1]], reason=text.strip())


def score_schema(criteria: Sequence[str]) -> dict[str, Any]:
    """The JSON schema of a single answer's verdict: each criterion with its reason before its score, then the whole."""
    number = {"type": "integer", "enum": list(range(LOWEST, HIGHEST + 1))}
    one = _closed({"reason": {"type": "string"}, "score": number})
    return _closed({"criteria": _closed(dict.fromkeys(criteria, one)), "reason": {"type": "string"}, "score": number})


def winner_schema() -> dict[str, Any]:
    """The JSON schema of a comparison's verdict."""
    return _closed({"reason": {"type": "string"}, "winner": {"type": "string", "enum": ["A", "B", "tie"]}})


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    """An object with exactly these properties: what strict structured output asks for."""
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _object(text: str) -> dict[str, Any] | None:
    text = text.strip()
    fenced = _FENCE.match(text)
    try:
        found = json.loads(fenced.group(1) if fenced else text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _structured_score(found: dict[str, Any], criteria: Sequence[str]) -> Verdict:
    given: dict[str, float] = {}
    reasons: list[str] = []
    listed = found.get("criteria")
    entries: dict[str, Any] = listed if isinstance(listed, dict) else {}
    for name in criteria:
        entry = entries.get(name)
        entry = entry if isinstance(entry, dict) else {"score": entry}
        value = _number(entry.get("score"))
        if value is not None and _in_range(value):
            given[name] = value
        if entry.get("reason"):
            reasons.append(f"{name}: {entry['reason']}")
    return _scored(_number(found.get("score")), given, "\n".join([*reasons, str(found.get("reason", ""))]).strip())


def _scored(value: float | None, criteria: dict[str, float], reason: str) -> Verdict:
    if value is None:
        return Verdict(criteria=criteria, reason=reason, unscored="the judge's reply has no score")
    if not _in_range(value):
        return Verdict(criteria=criteria, reason=reason, unscored=f"the judge's score {value:g} is not in {LOWEST}…{HIGHEST}")
    return Verdict(value, criteria, reason=reason)


def _last(pattern: re.Pattern[str], text: str) -> float | None:
    marks = pattern.findall(text)
    return float(marks[-1]) if marks else None


def _number(value: object) -> float | None:
    if isinstance(value, str):
        value = value.strip()
        return float(value) if re.fullmatch(r"-?\d+(?:\.\d+)?", value) else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _in_range(value: float) -> bool:
    return LOWEST <= value <= HIGHEST
