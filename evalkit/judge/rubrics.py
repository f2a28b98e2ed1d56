"""What a judge looks at: criteria by category, five anchored bands of scores, in both languages."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from modelkit.errors import DataError
from modelkit.fingerprint import sha256_of_text

Language = Literal["en", "zh"]
_SCALE = re.compile(r"^[^:：]{0,40}?[(（]1-5[)）][:：]\s*")
"""How ColossalEval opens a metric's definition; the scale named there isn't ours."""


@dataclass(frozen=True)
class Rubric:
    """One category's rubric in one language: ``criteria`` by name, ``bands`` from the lowest to the highest."""

    title: str
    criteria: Mapping[str, str]
    bands: tuple[str, ...]
    excels: str
    fails: str


@dataclass(frozen=True)
class Rubrics:
    """The rubrics of all categories; one that is unknown gets the general one."""

    content: Mapping[str, Any]
    metrics: Mapping[Language, Mapping[str, Mapping[str, str]]]

    def of(self, category: str, language: Language) -> Rubric:
        """The rubric of *category*, worded in *language*."""
        entry = self.content["categories"].get(category, self.content["general"])
        shared = {**self.content["shared"], **entry["criteria"]}
        criteria = {name: text[language] for name, text in shared.items()}
        criteria = dict(self.metrics.get(language, {}).get(category, criteria))
        return Rubric(
            entry["title"][language], criteria, tuple(self.content["bands"][language]), entry["excels"][language], entry["fails"][language]
        )

    def temperature(self, category: str) -> float:
        """At which answers of *category* are sampled."""
        return float(self.content["categories"].get(category, self.content["general"])["temperature"])

    def title(self, category: str, language: Language) -> str:
        """What *category* is called; its own name where the rubrics don't know it."""
        entry = self.content["categories"].get(category)
        return str(entry["title"][language]) if entry else category

    @property
    def sha256(self) -> str:
        """``sha256:…`` of all that a judge is told."""
        return sha256_of_text(json.dumps([self.content, self.metrics], sort_keys=True, ensure_ascii=False))


def load(metrics: Path | None = None, language: Language = "en") -> Rubrics:
    """The project's rubrics.

    :param metrics: an evaluation prompt file of ColossalEval's: the metrics it defines for a category replace our criteria there.
    :param language: the one *metrics* is written in.
    :raises DataError: when *metrics* is no such file.
    """
    return Rubrics(_own(), {language: _metrics(metrics)} if metrics else {})


@cache
def _own() -> Mapping[str, Any]:
    import yaml

    found: Mapping[str, Any] = yaml.safe_load((resources.files("evalkit.judge") / "rubrics.yaml").read_text(encoding="utf-8"))
    return found


def _metrics(path: Path) -> dict[str, dict[str, str]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {
            category: {name.replace(" ", "_"): _SCALE.sub("", text) for name, text in entry["metrics"].items()}
            for category, entry in content.items()
        }
    except OSError as error:
        raise DataError(f"{path} can't be read ({error.strerror}): name an evaluation prompt file of ColossalEval's.") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DataError(f"{path} is no evaluation prompt file of ColossalEval's: each category needs `metrics`.") from None
