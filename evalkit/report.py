"""``report.html``: a result as one self-contained page – bars by subject, reliability, option order, and the wrong answers.

Plots are drawn by the template as a few lines of HTML and SVG: a plotting library inlined would make every page megabytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from evalkit.calibration import normalised
from evalkit.recorded import Line, Recorded, read
from evalkit.statistics import chance_normalised, wilson
from evalkit.types import LETTERS, Item, PromptRow, Question, TextRow
from modelkit.atomic import write_text
from modelkit.records import MethodScore, SubjectScore, TaskScore

WRONG_ANSWERS = 500
"""At most so many of each task and method are on the page, the most confident first."""

Wording = Mapping[str, Mapping[str, str]]
"""Task → id → the question without shots and cues. Where there is none, the page shows the prompt, if the result keeps it."""


def write(folder: Path, wording: Wording | None = None) -> Path:
    """Write ``report.html`` beside the ``results.json`` of *folder*."""
    file = folder / "report.html"
    write_text(file, page(read(folder), wording or {}))
    return file


def wording(items: Iterable[Item]) -> dict[str, str]:
    """What each item asks, by id: the text with its options, without shots and cues."""
    return {item.id: _asks(item) for item in items}


def page(recorded: Recorded, wording: Wording | None = None) -> str:
    """The page of a result.

    Every text is escaped by the template engine, and the wrong answers reach the page's script as data, so a question can't bring
    markup in.
    """
    from jinja2 import Environment

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False}
    template = (resources.files("evalkit") / "report.html.jinja").read_text(encoding="utf-8")
    sections = [_section(name, task, method, found) for name, task, method, found in recorded.scores()]
    wrong = [
        row
        for name, _, method, _ in recorded.scores()
        for row in _wrong_answers(name, recorded.lines(name, method), (wording or {}).get(name, {}))
    ]
    facts = _facts(recorded)
    return (
        environment.from_string(template).render(name=recorded.name, result=recorded.result, sections=sections, wrong=wrong, facts=facts)
        + "\n"
    )


def _section(name: str, task: TaskScore, method: str, found: MethodScore) -> dict[str, Any]:
    """What the template shows of one task and method."""
    extra, further = task.model_extra or {}, found.model_extra or {}
    chance = extra.get("chance") if found.micro is not None else None
    return {
        "task": name,
        "method": method,
        "score": found,
        "protocol": extra.get("protocol", ""),
        "shots": task.shots if task.kind == "choice" else None,
        "chance": chance,
        "over_chance": chance_normalised(found.value, chance) if chance is not None and found.value is not None else None,
        "share": found.micro is not None,
        "groups": _groups(found),
        "calibration": further.get("calibration"),
        "permutation": further.get("permutation"),
        "further": {key: value for key, value in further.items() if isinstance(value, int | float)},
        "reasons": task.unscored_reasons,
        "approximate": extra.get("approximate"),
        "unofficial": further.get("unofficial") or [],
        "missing": extra.get("missing_subjects") or [],
    }


def _groups(found: MethodScore) -> list[dict[str, Any]]:
    """The subjects by category, the best first, each with its Wilson interval."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for subject, row in found.subjects.items():
        groups.setdefault(row.category or "", []).append({"name": subject, "row": row, "interval": _interval(row)})
    return [
        {"name": category, "total": found.categories.get(category), "rows": sorted(rows, key=lambda one: -(one["row"].accuracy or 0.0))}
        for category, rows in sorted(groups.items())
    ]


def _interval(row: SubjectScore) -> tuple[float, float] | None:
    scored = row.n - row.unscored
    return wilson(row.accuracy * scored, scored) if row.accuracy is not None and scored else None


def _wrong_answers(task: str, lines: Iterable[Line], wording: Mapping[str, str]) -> list[dict[str, Any]]:
    """The wrong answers of one task and method, the most confident first, with the number there are in all."""
    wrong = [line for line in lines if line.correct is False]
    rows: list[dict[str, Any]] = [
        {
            "task": f"{task} · {line.method}",
            "all": len(wrong),
            "id": line.id,
            "gold": line.gold,
            "answer": line.prediction,
            "shares": normalised(line.scores) if line.scores and line.method == "letters" else None,
            "text": wording.get(line.id) or line.prompt,
            "reply": (line.model_extra or {}).get("reply"),
        }
        for line in wrong
    ]
    return sorted(rows, key=lambda row: -max((row["shares"] or {"": 0.0}).values()))[:WRONG_ANSWERS]


def _asks(item: Item) -> str:
    if isinstance(item, Question):
        options = [f"{letter}. {option}" for letter, option in zip(LETTERS, item.options, strict=False)]
        return "\n".join([*([item.passage] if item.passage else []), item.text, *options])
    return item.question if isinstance(item, PromptRow) else item.text if isinstance(item, TextRow) else ""


def _facts(recorded: Recorded) -> dict[str, Any]:
    """What is needed to trust and repeat the numbers."""
    result = recorded.result
    facts: dict[str, Any] = {"checkpoint": result.model.path, "fingerprint": result.model.fingerprint, "dtype": result.model.dtype}
    for name, task in result.tasks.items():
        facts[name] = f"data {task.data}"
        if tokens := (task.model_extra or {}).get("letter_tokens"):
            facts[name] += f" · letters are tokens {tokens} · beginning of sequence {(task.model_extra or {}).get('bos')}"
    for name, _, method, found in recorded.scores():
        if checked := (found.model_extra or {}).get("verified"):
            facts[f"{name} · {method}"] = (
                f"{checked['n']:,} scored again, alone and without reuse: max |Δ log p| {checked['max_delta']:.1e}"
            )
    speed = result.speed
    facts["speed"] = (
        f"{speed.seconds:.1f} s · {speed.questions_per_s:.1f} questions/s · {speed.tokens_computed:,} tokens computed, "
        f"{speed.tokens_reused:,} reused · {speed.peak_memory_bytes / 2**20:,.0f} MiB"
    )
    return facts | {"seed": result.seed} | result.environment
