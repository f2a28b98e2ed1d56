"""The oracle: MMLU, CMMLU and C-Eval as their authors' scripts ask them, one question at a time, in the plainest way there is.

It shares no code with evalkit. Read beside hendrycks/test (evaluate.py), haonan-li/CMMLU (mp_utils.py) and hkust-nlp/ceval (llama.py).
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import torch

LETTERS = ["A", "B", "C", "D"]


@dataclass
class Answer:
    """What the model says to one question: a natural-log probability per letter, the best letter, and how many shots it saw."""

    scores: dict[str, float]
    prediction: str
    shots: int


def score_file(model, tokenizer, benchmark: str, folder: Path, subject: str, title: str, rows: list[int], shots: int, limit: int):
    """The answers to *rows* of a subject's file. ``title`` is the subject as the header names it; ``limit`` is in tokens."""
    files = {
        "mmlu": (f"data/dev/{subject}_dev.csv", f"data/test/{subject}_test.csv"),
        "cmmlu": (f"data/dev/{subject}.csv", f"data/test/{subject}.csv"),
        "ceval": (f"dev/{subject}_dev.csv", f"val/{subject}_val.csv"),
    }
    dev, test = (read_rows(folder / file, benchmark) for file in files[benchmark])
    return [answer(model, tokenizer, benchmark, title, dev[:shots], test[row], limit) for row in rows]


def read_rows(file: Path, benchmark: str) -> list[list[str]]:
    """[question, A, B, C, D, letter] of every row."""
    with file.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream))
    # MMLU has no header; CMMLU and C-Eval have one, and a first column that counts
    return rows if benchmark == "mmlu" else [row[1:7] for row in rows[1:]]


def format_example(benchmark: str, row: list[str], with_answer: bool) -> str:
    """A question, with or without its letter."""
    if benchmark == "mmlu":
        text, cue, letter = row[0], "\nAnswer:", f" {row[5]}\n\n"
    elif benchmark == "cmmlu":
        text, cue, letter = "题目：" + row[0], "\n答案是：", f"{row[5]}\n\n"
    else:
        text, cue, letter = row[0], "\n答案：", f"{row[5]}\n\n"
    for i, name in enumerate(LETTERS):
        text += f"\n{name}. {row[i + 1]}"
    return text + cue + (letter if with_answer else "")


def header(benchmark: str, title: str) -> str:
    """The line above the shots; MMLU's titles bring a blank of their own, hence two."""
    if benchmark == "mmlu":
        return f"The following are multiple choice questions (with answers) about {title}.\n\n"
    if benchmark == "cmmlu":
        return f"以下是关于{title}的单项选择题，请直接给出正确答案的选项。\n\n"
    return f"以下是中国关于{title}考试的单项选择题，请选出其中的正确答案。\n\n"


def fit(tokenizer, benchmark: str, start: str, examples: list[str], question: str, limit: int) -> tuple[str, int]:
    """The prompt and its number of shots, shortened by the benchmark's own rule."""
    if benchmark == "cmmlu":
        ends = len(tokenizer.encode(start) + tokenizer.encode(question))
        if ends > limit:
            return question, 0
        kept = [(example, len(tokenizer.encode(example))) for example in examples]
        while kept and sum(length for _, length in kept) >= limit - ends:
            longest = max(length for _, length in kept)
            kept = [(example, length) for example, length in kept if length != longest]
        return start + "".join(example for example, _ in kept) + question, len(kept)
    shots = len(examples)
    while shots and len(tokenizer.encode(start + "".join(examples[:shots]) + question)) > limit:
        shots -= 1
    return start + "".join(examples[:shots]) + question, shots


@torch.inference_mode()
def answer(model, tokenizer, benchmark: str, title: str, dev: list[list[str]], row: list[str], limit: int) -> Answer:
    """Ask one question: forward the prompt with each letter behind it, and read off the letter's probability."""
    examples = [format_example(benchmark, shot, True) for shot in dev]
    prompt, shots = fit(tokenizer, benchmark, header(benchmark, title), examples, format_example(benchmark, row, False), limit)
    before = tokenizer.encode(prompt)
    lead = " " if benchmark == "mmlu" else ""
    scores = {}
    for letter in LETTERS:
        ids = tokenizer.encode(prompt + lead + letter)
        assert ids[: len(before)] == before
        logprobs = model(input_ids=torch.tensor([ids])).logits[0, len(before) - 1 :].float().log_softmax(-1)
        scores[letter] = sum(float(logprobs[i, token]) for i, token in enumerate(ids[len(before) :]))
    return Answer(scores, max(scores, key=lambda letter: scores[letter]), shots)
