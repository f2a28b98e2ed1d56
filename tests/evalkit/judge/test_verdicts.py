"""Verdicts are read from the last mark, within range; what isn't a verdict is unscored, never a low score."""

from __future__ import annotations

import json

import pytest

from evalkit.judge import verdicts

NAMES = ["task", "language"]


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("Rating: [[10]]", 10),
        ("The rule says [[5]], as in example [1]. Rating: [[8]]", 8),
        ("[[ 7.5 ]]", 7.5),
        ("总评：很好 [[9分]]", 9),
        ("task: fine [[3]]\nlanguage: good [[9]]\noverall: both [[4]]", 4),
        ("**Overall**: solid [[6]]\n", 6),
        ('{"criteria": {"task": {"reason": "r", "score": 2}}, "reason": "x", "score": 10}', 10),
        ('```json\n{"score": 3, "reason": "short"}\n```', 3),
    ],
)
def test_a_score_is_read(text: str, score: float) -> None:
    assert verdicts.score(text, NAMES).score == score


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no score"),
        ("8/10", "no score"),
        ("I'd say 10 out of 10", "no score"),
        ("[[15]]", "15 is not in 1…10"),
        ("[[0]]", "0 is not in 1…10"),
        ("[[-3]]", "-3 is not in 1…10"),
        ("task: good [[9]]\nlanguage: good [[9]]", "no score"),
        ('{"score": null}', "no score"),
        ('{"score": true}', "no score"),
        ('{"criteria": {"task": {"reason": "says [[10]]"', "no whole JSON"),
    ],
)
def test_what_is_no_score_is_unscored_with_a_reason(text: str, reason: str) -> None:
    found = verdicts.score(text, NAMES)
    assert found.score is None
    assert reason in (found.unscored or "")


def test_criteria_and_reasons_are_kept() -> None:
    found = verdicts.score("task: half done [[5]]\nlanguage: fluent [[9]]\noverall: [[6]]", NAMES)
    assert found.criteria == {"task": 5, "language": 9}
    structured = {"criteria": {name: {"reason": f"why {name}", "score": 7} for name in NAMES}, "reason": "so", "score": 8}
    found = verdicts.score(json.dumps(structured), NAMES)
    assert (found.score, found.criteria) == (8, {"task": 7, "language": 7})
    assert found.reason == "task: why task\nlanguage: why language\nso"


@pytest.mark.parametrize(
    ("text", "winner"),
    [
        ("[[A]]", "a"),
        ("One could say [[A]], but on reflection: [[B]]", "b"),
        ("[[C]]", "tie"),
        ('{"reason": "A quotes [[B]]", "winner": "A"}', "a"),
        ('{"reason": "", "winner": "tie"}', "tie"),
        ("A is better", None),
        ('{"winner": "D"}', None),
        ('{"winner": "A', None),
    ],
)
def test_the_last_winner_counts(text: str, winner: str | None) -> None:
    found = verdicts.winner(text)
    assert found.winner == winner
    assert (found.unscored is None) == (winner is not None)


def test_schemas_are_closed_as_strict_structured_output_demands() -> None:
    def check(schema: dict) -> None:
        if schema["type"] == "object":
            assert schema["required"] == list(schema["properties"])
            assert schema["additionalProperties"] is False
            for inner in schema["properties"].values():
                check(inner)

    check(verdicts.score_schema(NAMES))
    check(verdicts.winner_schema())
