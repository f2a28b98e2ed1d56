"""``report.html`` of a judging: the table, categories as bars, and every prompt with all answers side by side and what the judge said.

One self-contained page that loads nothing. All texts reach its script as data and are shown as text, so no answer can bring markup in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from evalkit.judge.answers import Answer
from evalkit.judge.prompt_set import Prompt
from evalkit.judge.rubrics import Rubrics
from modelkit.records import Judgment, MethodScore, Result

APART = 3.0
"""Scores of two answers to one prompt that lie so far apart are called a disagreement."""


@dataclass(frozen=True)
class Row:
    """One turn of a prompt with the answers to it, and what was said of them."""

    prompt: Prompt
    turn: int
    answers: Sequence[Answer]
    judgments: Sequence[Judgment]


def page(summary: Mapping[str, Any], results: Mapping[str, Result], rows: Sequence[Row], rubrics: Rubrics) -> str:
    """The page of a judging."""
    from jinja2 import Environment

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False}
    template = (resources.files("evalkit.judge") / "report.html.jinja").read_text(encoding="utf-8")
    languages = sorted({row.prompt.language for row in rows})
    scores = {name: _scores(result) for name, result in results.items()}
    categories = list(dict.fromkeys(row.prompt.category for row in rows))
    return (
        environment.from_string(template).render(
            summary=summary,
            languages=languages,
            scores=scores,
            categories=[(name, {language: rubrics.title(name, language) for language in ("en", "zh")}) for name in categories],
            top=10.0 if summary["mode"] == "score" else 1.0,
            data={"mode": summary["mode"], "rows": [_row(row) for row in rows]},
        )
        + "\n"
    )


def _scores(result: Result) -> dict[str, MethodScore]:
    """A contestant's scores by language."""
    return {str((task.model_extra or {})["language"]): score for task in result.tasks.values() for score in task.methods.values()}


def _row(row: Row) -> dict[str, Any]:
    return {
        "id": row.prompt.id + (f" · {row.turn}" if len(row.prompt.turns) > 1 else ""),
        "language": row.prompt.language,
        "category": row.prompt.category,
        "prompt": row.prompt.turns[row.turn - 1],
        "earlier": list(row.prompt.turns[: row.turn - 1]),
        "reference": row.prompt.reference(row.turn),
        "answers": [{"model": one.model, "text": one.text, "missing": one.unanswered, "matches": one.in_language} for one in row.answers],
        "judgments": [_said(one) for one in row.judgments],
        "disagreement": _disagreement(row.judgments),
        "unscored": any(one.unscored for one in row.judgments),
    }


def _said(one: Judgment) -> dict[str, Any]:
    return {
        "models": [answer.model for answer in one.answers],
        "score": one.score,
        "criteria": one.criteria,
        "winner": one.winner,
        "orders": one.orders,
        "reason": one.reason,
        "unscored": one.unscored,
    }


def _disagreement(judgments: Sequence[Judgment]) -> bool:
    """Whether a judge contradicted itself when the order changed, or holds two answers to be far apart."""
    scores = [one.score for one in judgments if one.score is not None]
    swayed = any(len(one.orders) == 2 and None not in one.orders and one.orders[0] != one.orders[1] for one in judgments)
    return swayed or (len(scores) > 1 and max(scores) - min(scores) >= APART)
