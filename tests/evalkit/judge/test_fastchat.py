"""MT-bench's own wording: which of its templates a prompt is judged with."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalkit.judge import fastchat
from evalkit.judge.prompt_set import Prompt
from modelkit.chat import Message
from tests.evalkit.tiny import write_jsonl

SAID: list[Message] = [{"role": "user", "content": "Q1"}, {"role": "assistant", "content": "A1"}]


@pytest.mark.parametrize(
    ("category", "references", "turn", "asked"),
    [
        ("math", ["seven", "eight"], 1, "by seven: A1"),
        ("math", ["seven", "eight"], 2, "by seven, eight: A1, A2"),
        ("reasoning", ["seven", ""], 2, "A1, A2"),
        ("extraction", ["a note", "another"], 1, "A1"),
        ("stem", ["a note", "another"], 2, "A1, A2"),
        ("own", ["seven", "eight"], 1, "by seven: A1"),
    ],
)
def test_references_are_shown_where_fastchat_shows_them(
    tmp_path: Path, category: str, references: list[str | None], turn: int, asked: str
) -> None:
    texts = {
        "single-v1": "{answer}",
        "single-math-v1": "by {ref_answer_1}: {answer}",
        "single-v1-multi-turn": "{answer_1}, {answer_2}",
        "single-math-v1-multi-turn": "by {ref_answer_1}, {ref_answer_2}: {answer_1}, {answer_2}",
    }
    rows = [
        {"name": name, "type": "single", "system_prompt": "", "prompt_template": text, "output_format": "[[rating]]"}
        for name, text in texts.items()
    ]
    write_jsonl(tmp_path / "judge_prompts.jsonl", rows)
    prompt = Prompt(id="1", language="en", category=category, turns=["Q1", "Q2"], references=references)
    second: list[Message] = [{"role": "user", "content": "Q2"}, {"role": "assistant", "content": "A2"}]
    question = fastchat.load(tmp_path / "judge_prompts.jsonl").single(prompt, turn, SAID + second * (turn > 1))
    assert question.messages[1]["content"] == asked
