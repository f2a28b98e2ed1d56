"""Prompts to try: from what the run holds out, else a few of our own."""

from __future__ import annotations

import json
from pathlib import Path

from modelkit.run import Run
from playground.texts import EXAMPLES, Language

_PER_LANGUAGE = 3


def examples(run: Run | None, language: Language) -> list[str]:
    """A few prompts in both languages, the visitor's first."""
    own = _held_out(run.benchmark() / "prompts.jsonl") if run else {}
    order: tuple[Language, ...] = ("zh", "en") if language == "zh" else ("en", "zh")
    return [prompt for name in order for prompt in own.get(name) or EXAMPLES[name]]


def _held_out(file: Path) -> dict[Language, list[str]]:
    """Prompts of single-turn rows by language, a few spread evenly over the file; rows of another shape are passed over."""
    found: dict[Language, list[str]] = {"en": [], "zh": []}
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    for line in lines:
        try:
            messages = json.loads(line)["messages"]
            prompt = messages[0]["content"] if len(messages) == 1 else ""
        except (ValueError, LookupError, TypeError):
            continue
        if prompt:
            found["zh" if any("\u4e00" <= letter <= "\u9fff" for letter in prompt) else "en"].append(prompt)
    return {
        language: [prompts[i * len(prompts) // _PER_LANGUAGE] for i in range(min(_PER_LANGUAGE, len(prompts)))]
        for language, prompts in found.items()
    }
