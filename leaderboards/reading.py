"""A file with results, whoever wrote it: evalkit, lm-evaluation-harness, lighteval or OpenCompass."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

from leaderboards.readers import lighteval, lm_eval, opencompass
from modelkit.errors import DataError
from modelkit.records import Result

FOREIGN = ("results_*.json", "summary_*.csv")
"""What the files of other harnesses are called."""
FORMAT = 1
"""The format of our own results."""


def read(file: Path) -> tuple[list[Result], list[str]]:
    """The results in *file*, and a sentence for everything in it that has no figure; what is infinite or NaN is no figure.

    :raises DataError: when the file isn't there, is cut off, is of a newer format, or has a layout that nobody here knows.
    """
    results, notes = _results(file)
    return results, [*notes, *_without_figures(results)]


def _results(file: Path) -> tuple[list[Result], list[str]]:
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(f"there is no result at {file}.") from None
    except UnicodeDecodeError:
        raise DataError(f"{file} is no result file: it is no UTF-8 text.") from None
    if opencompass.matches(text):
        found, lacking = opencompass.read(text, file.stem.removeprefix("summary_"))
        if not found:
            raise DataError(f"{file} has no figure of any model: let OpenCompass summarise a work folder that has results.")
        return found, lacking
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{file} is no result file, or is cut off: {error.msg} in line {error.lineno}.") from None
    if not isinstance(content, dict):
        raise DataError(f"{file} is no result file: it holds no JSON object.")
    for reader in (lighteval, lm_eval):
        if reader.matches(content):
            try:
                return [reader.read(content)], []
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise DataError(f"{file} looks like {reader.HARNESS}'s, but can't be read ({type(error).__name__}: {error}).") from None
    version = content.get("format")
    if isinstance(version, int) and version > FORMAT:
        raise DataError(f"{file} has format {version}, this version reads {FORMAT}: use the version that wrote it, or a newer one.")
    if "tasks" not in content:
        raise DataError(f"{file} is no result file: it is laid out like none of evalkit's, lm-eval's, lighteval's and OpenCompass'.")
    return [Result.read(file)], []


def _without_figures(results: Sequence[Result]) -> list[str]:
    """Take out values and intervals that aren't finite, and say where."""
    notes = []
    for result in results:
        for name, task in result.tasks.items():
            for method, score in task.methods.items():
                if score.value is not None and not math.isfinite(score.value):
                    notes.append(f"{result.model.path} has {score.value} for {name} by {method}, which is no figure.")
                    score.value = None
                if score.ci95 is not None and not all(map(math.isfinite, score.ci95)):
                    score.ci95 = None
    return notes
