"""The report card: one table of every metric by stage, what it cost, what it ran on, and whether the recipe's bars are met."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from modelkit import atomic
from modelkit.records import MethodScore, Result
from trainers.recipe import Bar, Recipe

_PACKAGES = ("torch", "transformers", "tokenizers", "sentencepiece", "safetensors")
Metrics = dict[str, dict[str, float]]
"""metric → stage → value"""


def build(recipe: Recipe, stages: list[dict[str, Any]], results: dict[str, list[Path]], seed: int, threads: int) -> dict[str, Any]:
    """Collect the card.

    :param stages: one entry per stage with name, steps, tokens, seconds, metrics and data counts.
    :param results: evalkit's ``results.json`` files by stage.
    """
    metrics: Metrics = {}
    for stage in stages:
        for name, value in stage["metrics"].items():
            metrics.setdefault(f"train.{name}", {})[stage["name"]] = value
    for stage_name, files in results.items():
        for file in files:
            for name, value in _flatten(Result.read(file)):
                metrics.setdefault(name, {})[stage_name] = value
    return {
        "format": 1,
        "name": recipe.name,
        "seed": seed,
        "seconds": round(sum(stage["seconds"] for stage in stages), 1),
        "stages": stages,
        "metrics": metrics,
        "bars": [_judge(bar, metrics) for bar in recipe.bars],
        "environment": environment(threads),
    }


def write(card: dict[str, Any], run: Path) -> None:
    """Put the card into the *run*, as ``report.json`` and ``report.md``."""
    atomic.write_json(run / "report.json", card)
    atomic.write_text(run / "report.md", to_markdown(card))


def environment(threads: int) -> dict[str, Any]:
    """Versions and machine, as far as results depend on them."""
    versions: dict[str, Any] = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return {**versions, "threads": threads, "machine": platform.machine(), "system": platform.system()}


def to_markdown(card: dict[str, Any]) -> str:
    """The card for people."""
    names = [stage["name"] for stage in card["stages"]]
    lines = [f"# {card['name']}: report card", ""]
    minutes, seconds = divmod(round(card["seconds"]), 60)
    lines += [f"Seed {card['seed']}, {minutes} min {seconds} s in all.", ""]
    if card["bars"]:
        lines += ["## Bars", "", "| what | bar | reached | |", "|---|---|---|---|"]
        for bar in card["bars"]:
            value = "–" if bar["value"] is None else f"{bar['value']:.3f}"
            lines.append(f"| {bar['name']} | {bar['bar']}{' (aim)' if bar['aim'] else ''} | {value} | {'✓' if bar['met'] else '✗'} |")
        lines.append("")
    columns = [name for name in names if any(name in row for row in card["metrics"].values())]
    lines += ["## Metrics by stage", "", "| metric | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    for metric, row in card["metrics"].items():
        lines.append(f"| {metric} | " + " | ".join(_number(row[name]) if name in row else "" for name in columns) + " |")
    lines += ["", "## Work", "", "| stage | steps | tokens | seconds | tokens/s |", "|---|---|---|---|---|"]
    for stage in card["stages"]:
        steps, tokens = (f"{stage[key]:,}" if stage[key] else "" for key in ("steps", "tokens"))
        speed = f"{stage['tokens'] / stage['seconds']:,.0f}" if tokens and stage["seconds"] else ""
        lines.append(f"| {stage['name']} | {steps} | {tokens} | {stage['seconds']:.1f} | {speed} |")
    with_data = [stage for stage in card["stages"] if stage.get("data")]
    if with_data:
        lines += ["", "## Data", "", "| stage | rows | used | bad | dropped | truncated |", "|---|---|---|---|---|---|"]
        for stage in with_data:
            data = stage["data"]
            lines.append(
                f"| {stage['name']} | " + " | ".join(f"{data[key]:,}" for key in ("rows", "used", "bad", "dropped", "truncated")) + " |"
            )
    lines += [
        "",
        "## Made with",
        "",
        ", ".join(f"{key} {value}" for key, value in card["environment"].items() if value is not None) + ".",
        "",
    ]
    return "\n".join(lines)


def _number(value: float) -> str:
    """Shares and losses with three decimals, counts with none."""
    return f"{value:,.0f}" if value >= 2 and value == int(value) else f"{value:.3f}"


def _flatten(result: Result) -> list[tuple[str, float]]:
    """(metric, value) pairs of a result: ``choice.letters``, ``answer``, ``pairs[truth]``, ``reward.win_rate``, …"""
    pairs: list[tuple[str, float]] = []
    for task, score in result.tasks.items():
        name = task.split("@")[0].split(".", 1)[-1]
        for method, found in score.methods.items():
            label = f"{name}.{method}" if score.kind == "choice" else name
            if found.value is not None:
                pairs.append((label, found.value))
            if score.kind == "pairs":
                pairs += [(f"{label}[{subject}]", row.accuracy) for subject, row in found.subjects.items() if row.accuracy is not None]
            pairs += [(f"{label}.{extra}", value) for extra, value in _extras(found)]
    return pairs


def _extras(found: MethodScore) -> list[tuple[str, float]]:
    return [
        (name, float(value))
        for name, value in (found.model_extra or {}).items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    ]


def _judge(bar: Bar, metrics: Metrics) -> dict[str, Any]:
    row = metrics.get(bar.metric, {})
    value = row.get(bar.stage)
    if value is not None and bar.minus is not None:
        value = value - row[bar.minus] if bar.minus in row else None
    met = value is not None and (bar.at_least is None or value >= bar.at_least) and (bar.at_most is None or value <= bar.at_most)
    limit = " and ".join(
        text
        for text in (f"≥ {bar.at_least}" if bar.at_least is not None else "", f"≤ {bar.at_most}" if bar.at_most is not None else "")
        if text
    )
    return {"name": bar.name, "stage": bar.stage, "metric": bar.metric, "value": value, "bar": limit, "met": met, "aim": bar.aim}
