"""A few prompts in both languages, and answers to them that nobody has to generate."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.evalkit.tiny import write_jsonl

PROMPTS = [
    {"id": f"{category}-{i}", "language": language, "category": category, "turns": turns, **extra}
    for category, extra in (("chat", {}), ("reasoning", {"references": ["7"]}))
    for language, turns in (("en", ["What is it, then?"]), ("zh", ["这是什么？"]))
    for i in (1, 2)
]


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    """Eight prompts."""
    write_jsonl(tmp_path / "own.jsonl", PROMPTS)
    return tmp_path / "own.jsonl"


def answers(file: Path, model: str, texts: list[str]) -> Path:
    """A file with *model*'s answers to the eight prompts, *texts* in turn."""
    rows = [
        {
            "model": model,
            "prompt": prompt["id"],
            "language": prompt["language"],
            "messages": [{"role": "user", "content": prompt["turns"][0]}, {"role": "assistant", "content": texts[i % len(texts)]}],
        }
        for i, prompt in enumerate(PROMPTS)
    ]
    write_jsonl(file, rows)
    return file
