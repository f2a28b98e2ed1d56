"""``results_<date>.json`` of lm-evaluation-harness 0.4: a task or a group of tasks becomes a task, a metric a method."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from leaderboards.readers import foreign
from modelkit.records import MethodScore, Result, SubjectScore, TaskScore

HARNESS = "lm-eval"
_KINDS = {"multiple_choice": "choice", "loglikelihood": "choice", "loglikelihood_rolling": "text", "generate_until": "answer"}


def matches(content: Mapping[str, Any]) -> bool:
    """Whether this is such a file."""
    return "results" in content and "configs" in content and "n-shot" in content


def read(content: Mapping[str, Any]) -> Result:
    """The result in a file's *content*. Tasks that belong to a group are subjects of it, inner groups its categories."""
    subtasks = {name: list(inner) for name, inner in content.get("group_subtasks", {}).items() if inner}
    inner = {name for below in subtasks.values() for name in below}
    tops = [name for name in {**content.get("groups", {}), **content["results"]} if name not in inner]
    config = content.get("config", {})
    arguments = _arguments(config)
    model = str(content.get("model_name") or arguments.get("pretrained") or config.get("model") or "unknown")
    when = str(int(float(content.get("date") or 0)))
    tasks = {name: _task(content, name, subtasks) for name in tops}
    loaded = next((bits for bits in ("4bit", "8bit") if str(arguments.get(f"load_in_{bits}")) == "True"), None)
    dtype = loaded or str(config.get("model_dtype") or "unknown").removeprefix("torch.")
    return foreign.result(HARNESS, foreign.revised(model, config.get("model_revision")), when, tasks, dtype)


def _task(content: Mapping[str, Any], name: str, subtasks: Mapping[str, list[str]]) -> TaskScore:
    leaves = dict(_leaves(name, subtasks, None))
    example = name if name in content["configs"] else next((leaf for leaf in leaves if leaf in content["configs"]), name)
    config = content["configs"].get(example, {})
    figures = {**content["results"].get(name, {}), **content.get("groups", {}).get(name, {})}
    known = [_asked(content, leaf) for leaf in leaves] if name in subtasks else [_asked(content, name)]
    n = sum(count for count in known if count is not None) if None not in known else None
    methods: dict[str, MethodScore] = {}
    for key, value in figures.items():
        metric, _, kept = key.partition(",")
        if metric.endswith("_stderr") or isinstance(value, bool) or not isinstance(value, int | float) or "," not in key:
            continue
        error = figures.get(f"{metric}_stderr,{kept}")
        subjects = _subjects(content, leaves, key) if name in subtasks else {}
        averages = {"micro": foreign.micro(subjects), "macro": foreign.macro(subjects)} if subjects else {}
        lower = {"lower_is_better": True} if content.get("higher_is_better", {}).get(name, {}).get(metric) is False else {}
        methods[metric if kept == "none" else f"{metric} ({kept})"] = foreign.score(
            metric,
            float(value),
            n,
            error if isinstance(error, int | float) else None,
            subjects=subjects,
            categories=foreign.categories(subjects),
            official=_which(float(value), averages),
            **averages,
            **lower,
        )
    version = content.get("task_hashes", {}).get(name) or f"version {content.get('versions', {}).get(name, '?')}"
    kind = _KINDS.get(config.get("output_type", ""), "choice")
    shots = content["n-shot"].get(example) or 0
    chat = bool(content.get("chat_template"))
    return foreign.task(kind, HARNESS, name, methods, str(version), int(shots), chat, **_prompting(content))


def _leaves(name: str, subtasks: Mapping[str, list[str]], category: str | None) -> Iterator[tuple[str, str | None]]:
    """The tasks at the bottom of a group, each with the inner group it stands in."""
    for inner in subtasks.get(name, []):
        if inner in subtasks:
            yield from _leaves(inner, subtasks, category or inner)
        else:
            yield inner, category


def _subjects(content: Mapping[str, Any], leaves: Mapping[str, str | None], key: str) -> dict[str, SubjectScore]:
    return {
        leaf: foreign.subject(float(content["results"][leaf][key]), _asked(content, leaf), category)
        for leaf, category in leaves.items()
        if isinstance(content["results"].get(leaf, {}).get(key), int | float)
    }


def _asked(content: Mapping[str, Any], name: str) -> int | None:
    count = content.get("n-samples", {}).get(name, {}).get("effective")
    return int(count) if count is not None else None


def _which(value: float, averages: Mapping[str, float | None]) -> str | None:
    """Which of the two averages a group's figure is."""
    return next((name for name, average in averages.items() if average is not None and abs(average - value) < 1e-6), None)


def _arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """How the model was loaded: a mapping, or ``name=value`` pairs in a line."""
    given = config.get("model_args") or ""
    return dict(given) if isinstance(given, dict) else dict(part.split("=", 1) for part in str(given).split(",") if "=" in part)


def _prompting(content: Mapping[str, Any]) -> dict[str, Any]:
    """What else was put before every question, where anything was: scores with and without it are no scores of one test."""
    told = [content.get("system_instruction_sha"), bool(content.get("fewshot_as_multiturn"))]
    return {"prompting": told} if any(told) else {}
