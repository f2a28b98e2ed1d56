"""Published figures of well-known models, quoted: nobody measured them here, and no test of ours compares with them."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib import resources

from leaderboards.wording import Both

SOURCE = Both(
    "Quoted from the README of ColossalEval (hpcaitech/ColossalAI, applications/ColossalEval), in per cent; GAOKAO is asked without "
    "examples, the others with the number of shots shown. Figures in parentheses are the model makers' own. Their prompts and "
    "averages differ from ours, by up to 7 points on the same weights: compare with care.",
    "引自 ColossalEval 的 README（hpcaitech/ColossalAI，applications/ColossalEval），单位为百分比；GAOKAO 为零样本，"
    "其余为所示样本数。括号内为模型作者公布的数值。其提示词与平均方式与本站不同，同一权重可相差 7 个百分点，请谨慎比较。",
)
BENCHMARKS = {"mmlu": "MMLU", "cmmlu": "CMMLU", "agieval": "AGIEval", "gaokao": "GAOKAO", "ceval": "C-Eval"}


@dataclass(frozen=True)
class Quoted:
    """A model's figures by benchmark, in 0…1: as ColossalEval measured them, and as its makers published them."""

    model: str
    tokens: str
    shots: int
    measured: dict[str, float]
    official: dict[str, float]


def published() -> list[Quoted]:
    """All quoted models, in their source's order."""
    text = (resources.files("leaderboards") / "published.csv").read_text(encoding="utf-8")
    return [
        Quoted(row["model"], row["tokens"], int(row["shots"]), _shares(row, ""), _shares(row, "_official"))
        for row in csv.DictReader(text.splitlines())
    ]


def _shares(row: dict[str, str], ending: str) -> dict[str, float]:
    return {name: float(row[name + ending]) / 100.0 for name in BENCHMARKS if row.get(name + ending)}
