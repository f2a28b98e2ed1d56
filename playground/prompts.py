"""Prompts to try: those that the run holds out, else a few of our own."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass

from modelkit.run import Run
from playground.texts import EXAMPLES, Language

_PER_LANGUAGE = 3


@dataclass(frozen=True)
class Prompt:
    """A message to put to a model."""

    text: str
    language: Language
    category: str | None = None

    @classmethod
    def of(cls, text: str, category: str | None = None) -> Prompt:
        """A prompt; one with a Chinese character in it counts as Chinese."""
        return cls(text, "zh" if any("\u4e00" <= letter <= "\u9fff" for letter in text) else "en", category)


def examples(run: Run | None, language: Language) -> list[str]:
    """A few prompts in both languages, the visitor's first, spread evenly over what the run holds out."""
    order: tuple[Language, ...] = ("zh", "en") if language == "zh" else ("en", "zh")
    offered = prompts(run)
    return [prompt for name in order for prompt in _spread([prompt.text for prompt in offered if prompt.language == name])]


def prompts(run: Run | None) -> list[Prompt]:
    """The prompts that a run holds out, and our own for a language that it has none in."""
    own = held_out(run) if run else []
    languages = {prompt.language for prompt in own}
    return own + [Prompt(text, language) for language, texts in EXAMPLES.items() if language not in languages for text in texts]


def held_out(run: Run) -> list[Prompt]:
    """The single-turn prompts of a run's own benchmark; rows of another shape are passed over."""
    try:
        lines = (run.benchmark() / "prompts.jsonl").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    found = []
    for line in lines:
        try:
            row = json.loads(line)
            messages = row["messages"]
            text = messages[0]["content"] if len(messages) == 1 else ""
            category = row.get("category")
        except (ValueError, LookupError, TypeError, AttributeError):
            continue
        if isinstance(text, str) and text.strip():
            found.append(Prompt.of(text, category if isinstance(category, str) else None))
    return found


def queued(offered: Sequence[Prompt], visitor: str, number: int) -> Prompt:
    """The prompt at a place in a visitor's queue: every visitor goes through all of them, each in an order of their own."""
    order = list(range(len(offered)))
    random.Random(f"{visitor} prompts {number // len(offered)}").shuffle(order)
    return offered[order[number % len(offered)]]


def _spread(texts: list[str]) -> list[str]:
    shown = min(_PER_LANGUAGE, len(texts))
    return [texts[place * len(texts) // shown] for place in range(shown)]
