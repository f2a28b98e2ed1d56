"""AGIEval's exams in English and Chinese: single choice, several right answers, and cloze mathematics."""

from __future__ import annotations

import ast
import csv
import io
from collections.abc import Sequence
from pathlib import Path

from evalkit.reading import Columns, read_entries, sha256_of_files
from evalkit.tasks.agieval_prompts import CHINESE, ENGLISH, KIND, PROTOCOLS, WITH_SHOTS
from evalkit.tasks.folders import below, near
from evalkit.types import ChoiceTask, Question
from evalkit.validation import Finding, checked
from modelkit.errors import DataError, UserError

__all__ = ["PROTOCOLS", "load"]


def load(
    data: Path | None, shots: int | None = None, methods: Sequence[str] | None = None, protocol: str = "official", split: str | None = None
) -> ChoiceTask:
    """All tasks below *data* (``v1/<task>.jsonl``), and up to five shots each (``few_shot_prompts.csv``).

    :raises UserError: when the data is not there or damaged.
    """
    if data is None:
        raise UserError("agieval needs its data: give --data DIR, the folder that holds v1/*.jsonl and few_shot_prompts.csv.")
    root = below(data, "agieval", lambda folder: any((folder / "v1").glob("*.jsonl")))
    if root is None:
        raise DataError(f"{data} is not laid out like agieval: v1/*.jsonl were looked for in it, in its data/ and in its agieval/.")
    wanted = PROTOCOLS[protocol].shots if shots is None else shots
    chosen = (WITH_SHOTS if wanted else PROTOCOLS)[protocol]
    files = sorted((root / "v1").glob("*.jsonl"))
    items: list[Question] = []
    findings: list[Finding] = []
    for file in files:
        if file.stem not in (*ENGLISH, *CHINESE):
            raise DataError(f"{file} is no task of agieval{near(file.stem, (*ENGLISH, *CHINESE))}: remove the file, or check --data.")
        kind = KIND.get(file.stem, "single")
        columns = Columns("question", "options", "answer" if kind == "cloze" else "label", passage="passage")
        found, spoken = checked(read_entries(file, columns), file.stem, ("English" if file.stem in ENGLISH else "Chinese",), kind)
        items += found
        findings += spoken
    dev = {}
    if wanted:
        examples = root / "few_shot_prompts.csv"
        dev = {file.stem: few_shot(examples, file.stem)[:wanted] for file in files}
        files.append(examples)
    expected = (*ENGLISH, *CHINESE)
    return ChoiceTask(
        f"agieval@{protocol}", sha256_of_files(files, root), items, chosen, dev, wanted, methods or chosen.methods, findings, expected
    )


def few_shot(file: Path, task: str) -> list[Question]:
    """A task's shots, each row of problems followed by one of explanations; answers as they are printed there, lists as lists."""
    try:
        rows = list(csv.reader(io.StringIO(file.read_text(encoding="utf-8"), newline="")))
        column = rows[0].index("sat-en" if task == "sat-en-without-passage" else task)
        cells = [row[column] for row in rows[1:]]
        pairs = [(ast.literal_eval(cell), thought) for cell, thought in zip(cells[::2], cells[1::2], strict=True) if cell and thought]
    except (OSError, UnicodeDecodeError, csv.Error, ValueError, IndexError, SyntaxError) as error:
        raise DataError(f"{file} does not hold the examples of {task}: {str(error) or type(error).__name__}.") from None
    kind = KIND.get(task, "single")
    return [
        Question(
            f"{task}/example {number}",
            task,
            (),
            shot["question"],
            tuple(shot["options"] or ()),
            str(shot["answer" if kind == "cloze" else "label"]),
            kind,
            "" if task == "sat-en-without-passage" else shot["passage"] or "",
            thought.replace("\n\n", "\n"),
        )
        for number, (shot, thought) in enumerate(pairs, start=1)
    ]
