"""``results_<date>.json`` of lighteval: subsets of a task (``mmlu:anatomy``) become its subjects, metrics its methods."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from leaderboards.readers import foreign
from modelkit.records import MethodScore, Result, TaskScore

HARNESS = "lighteval"
_AVERAGE = "_average"
_KEY = re.compile(r"^(?:(?P<suite>[^|]+)\|)?(?P<task>[^|]+)\|(?P<shots>\d+)(?:\|\d+)?$")


def matches(content: Mapping[str, Any]) -> bool:
    """Whether this is such a file."""
    return "results" in content and "config_general" in content


def read(content: Mapping[str, Any]) -> Result:
    """The result in a file's *content*. The row ``all``, an average over whatever was run, is no task."""
    general = content["config_general"]
    config = general["model_config"] if isinstance(general.get("model_config"), dict) else {}
    model = foreign.revised(str(general.get("model_name") or config.get("model_name") or "unknown"), config.get("revision"))
    groups: dict[tuple[str, int], dict[str, str]] = {}
    for key in content["results"]:
        found = _KEY.match(key)
        if found:
            task, _, subset = found["task"].partition(":")
            groups.setdefault((task, int(found["shots"])), {})[subset] = key
    tasks = {_name(name, shots, groups): _task(content, name, shots, keys) for (name, shots), keys in groups.items()}
    when = str(general.get("start_time") or general.get("end_time") or "")
    return foreign.result(HARNESS, model, when, tasks, str(general.get("model_dtype") or "unknown").removeprefix("torch."))


def _name(name: str, shots: int, groups: Mapping[tuple[str, int], Any]) -> str:
    """A task asked with two numbers of shots is two tasks of one result."""
    return name if sum(other == name for other, _ in groups) == 1 else f"{name} ({shots}-shot)"


def _task(content: Mapping[str, Any], name: str, shots: int, keys: Mapping[str, str]) -> TaskScore:
    rows = {subset: content["results"][key] for subset, key in keys.items()}
    metrics = dict.fromkeys(metric for row in rows.values() for metric in row if not metric.endswith("_stderr"))
    counts = {subset: _asked(content, key) for subset, key in keys.items() if subset != _AVERAGE}
    n = sum(count for count in counts.values() if count) if all(counts.values()) else None
    methods: dict[str, MethodScore] = {}
    for metric in metrics:
        subsets = {subset: row for subset, row in rows.items() if subset not in ("", _AVERAGE) and metric in row}
        subjects = {subset: foreign.subject(float(row[metric]), counts[subset]) for subset, row in subsets.items()}
        whole = rows.get("") or rows.get(_AVERAGE) or {}
        value = whole.get(metric, foreign.macro(subjects))
        averages = {"micro": foreign.micro(subjects), "macro": foreign.macro(subjects), "official": "macro"} if subjects else {}
        if value is not None:
            error = whole.get(f"{metric}_stderr")
            methods[metric] = foreign.score(metric, float(value), n, error, subjects=subjects, **averages)
    version = next((content.get("versions", {})[key] for key in keys.values() if key in content.get("versions", {})), "?")
    kind = "choice" if any(metric.startswith(("acc", "mc")) for metric in metrics) else "answer"
    return foreign.task(kind, HARNESS, name, methods, f"version {version}", shots)


def _asked(content: Mapping[str, Any], key: str) -> int | None:
    configs = content.get("config_tasks", {})
    config = configs.get(key) or configs.get(key.rsplit("|", 1)[0]) or configs.get("|".join(key.split("|")[:2])) or {}
    count = config.get("effective_num_docs")
    return int(count) if count and int(count) > 0 else None
