"""``summary_<date>.csv`` of OpenCompass: a column for each model, a row for each data set and metric, values in per cent."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from leaderboards.readers import foreign
from modelkit.fingerprint import sha256_of_text
from modelkit.records import MethodScore, Result, TaskScore

HARNESS = "opencompass"
_COLUMNS = ("dataset", "version", "metric", "mode")
_FAMILIES = {
    "lukaemon_mmlu_": "mmlu",
    "ceval-": "ceval",
    "cmmlu-": "cmmlu",
    "agieval-": "agieval",
    "GaokaoBench_": "GaokaoBench",
    "bbh-": "bbh",
}
"""How the data sets of a benchmark begin, and what the row with their average is called."""

_Rows = dict[str, Mapping[str, str]]


def matches(text: str) -> bool:
    """Whether this is such a file."""
    return tuple(text.lstrip("\ufeff").split("\n", 1)[0].strip().split(",")[:4]) == _COLUMNS


def read(text: str, when: str) -> tuple[list[Result], list[str]]:
    """A result for each model of a file's *text*, and a sentence for each model that lacks figures. Headings are no data sets."""
    table = csv.DictReader(io.StringIO(text.lstrip("\ufeff")))
    rows = [row for row in table if row.get("dataset") and row.get("metric") not in (None, "", "-")]
    found, lacking = [], []
    for model in [name for name in table.fieldnames or () if name not in _COLUMNS]:
        own = [row for row in rows if _number(row.get(model)) is not None]
        tasks = _tasks(own, model)
        if tasks:
            found.append(foreign.result(HARNESS, model, when, tasks))
        if len(own) < len(rows):
            missing = [row["dataset"] for row in rows if _number(row.get(model)) is None]
            lacking.append(f"{model} has no figure for {len(missing):,} rows of OpenCompass' summary (the first: {missing[0]}).")
    return found, lacking


def _tasks(rows: list[dict[str, str]], model: str) -> dict[str, TaskScore]:
    families: dict[str, _Rows] = {}
    for row in rows:
        family = next((name for start, name in _FAMILIES.items() if row["dataset"].startswith(start)), None)
        if family:
            families.setdefault(family, {})[row["dataset"]] = row
    whole = [row for row in rows if not any(row["dataset"] in inner for inner in families.values())]
    grouped: dict[str, list[Mapping[str, str]]] = {}
    for row in whole:
        grouped.setdefault(row["dataset"], []).append(row)
    names = dict.fromkeys([*grouped, *families])
    return {name: _task(name, grouped.get(name, []), families.get(name, {}), model) for name in names}


def _task(name: str, rows: list[Mapping[str, str]], inner: _Rows, model: str) -> TaskScore:
    subjects = {subject: foreign.subject(_share(row, model), None) for subject, row in inner.items()}
    average = foreign.macro(subjects)
    methods: dict[str, MethodScore] = {}
    for row in rows:
        averages: dict[str, Any] = {"subjects": subjects, "macro": average, "official": "macro"} if subjects else {}
        method = row["mode"] if len(rows) == 1 else f"{row['mode']} ({row['metric']})"
        methods[method] = _score(row, model, averages)
    if not rows and average is not None:
        first = next(iter(inner.values()))
        methods[first["mode"]] = foreign.score("accuracy", average, None, subjects=subjects, macro=average, official="macro")
    known = rows[0] if rows else next(iter(inner.values()))
    kind = "choice" if known["mode"] == "ppl" or name in foreign.CHANCE else "answer"
    return foreign.task(kind, HARNESS, name, methods, f"version {_version([known, *inner.values()])}")


def _version(rows: Sequence[Mapping[str, str]]) -> str:
    """The hash of the prompts behind a figure. An average has none of its own: it is as many hashes as it is the average of."""
    versions = sorted({row["version"] for row in rows} - {"-"})
    return versions[0] if len(versions) == 1 else sha256_of_text(" ".join(versions)).removeprefix("sha256:")[:12] if versions else "-"


def _score(row: Mapping[str, str], model: str, averages: Mapping[str, Any]) -> MethodScore:
    metric = row["metric"]
    share = foreign.score(metric, _share(row, model), None, **averages)
    return share if not (share.model_extra or {}).get("raw") else foreign.score(metric, _number(row[model]) or 0.0, None, **averages)


def _share(row: Mapping[str, str], model: str) -> float:
    return (_number(row[model]) or 0.0) / 100.0


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None
