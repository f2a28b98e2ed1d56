"""Files of prompts as people have them, read into the fields of :class:`evalkit.judge.prompt_set.Prompt`.

==================  ==========================================================================================
ours                ``id``, ``language``, ``category``, ``turns``, ``references`` (``id`` and ``language`` may be left out)
canonical prompts   ``messages`` that end with the user's turn, ``reference``, ``category``
MT-bench, Vicuna    ``question_id``, ``category``, ``turns``, ``reference``; GPT-4's references come in a file of their own
ColossalEval        ``instruction``, ``input``, ``target``, ``category``, ``id``
AlpacaEval          ``instruction``, ``dataset``, ``output``, ``generator``
BELLE               ``question``, ``class``, ``std_answer``
==================  ==========================================================================================

A file is one JSON list or one object per line. Where a row doesn't say its language, its task's wording tells it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit.extraction import same_language
from modelkit.errors import DataError

_TEMPERATURES = {
    "writing": 0.7,
    "roleplay": 0.7,
    "extraction": 0.0,
    "math": 0.0,
    "coding": 0.0,
    "reasoning": 0.0,
    "stem": 0.1,
    "humanities": 0.1,
}
"""At which MT-bench has its categories answered (FastChat, llm_judge/common.py); 0.7 for all others."""

_BEGINNING = 60


@dataclass(frozen=True)
class Row:
    """The fields of a prompt-to-be, and the ``place`` (file:line) it came from."""

    place: str
    fields: dict[str, Any]


def text_of(path: Path) -> str:
    """The text of a file.

    :raises DataError: when it isn't there or isn't UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, IsADirectoryError):
        raise DataError(f"there is no file {path}: check the path.") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8: save it as UTF-8.") from None


def objects(text: str, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, object) of each entry of a JSON list or of JSON lines.

    :raises DataError: naming file and line, for what is no JSON object.
    """
    if text.lstrip().startswith("["):
        try:
            entries = [(f"{name}, entry {number}", entry) for number, entry in enumerate(json.loads(text), 1)]
        except ValueError as error:
            raise DataError(f"{name} is no JSON ({error}): it may be cut off; copy it again.") from None
    else:
        entries = []
        for number, line in enumerate(text.split("\n"), 1):  # splitlines() would also cut at U+2028 within a string
            if line.strip():
                try:
                    entries.append((f"{name}:{number}", json.loads(line)))
                except ValueError:
                    raise DataError(f"{name}:{number} is no JSON object: mend or remove that line.") from None
    for place, entry in entries:
        if not isinstance(entry, dict):
            raise DataError(f"{place} is no JSON object: each entry must be one.")
        yield place, entry


def read(text: str, name: str, references: str | None = None) -> list[Row]:
    """The prompts in *text*, whatever the layout.

    :param name: of the file, for messages.
    :param references: the text of a file of reference answers in MT-bench's layout.
    :raises DataError: for a row of no layout known here.
    """
    answers = _answers(references) if references else {}
    return [Row(place, _fields(place, number, entry, answers)) for number, (place, entry) in enumerate(objects(text, name), 1)]


def _fields(place: str, number: int, entry: dict[str, Any], answers: dict[str, list[str]]) -> dict[str, Any]:
    for marks, reader in _LAYOUTS:
        if marks <= entry.keys():
            fields = {"id": str(number), "category": "general", **reader(entry)}
            fields["references"] = answers.get(fields["id"]) or fields.get("references") or []
            return {"language": _language(entry, fields["turns"]), **fields}
    raise DataError(f"{place} is no prompt of a known layout: it needs turns, messages, instruction or question (see docs/judge.md).")


def _language(entry: dict[str, Any], turns: Any) -> str:
    """The language in which the task begins: what it is about may be in another one."""
    said = entry.get("instruction") or (turns[0] if isinstance(turns, list) and turns else "")
    return "en" if same_language("text", str(said)[:_BEGINNING]) else "zh"


def _ours(entry: dict[str, Any]) -> dict[str, Any]:
    return entry


def _canonical(entry: dict[str, Any]) -> dict[str, Any]:
    turns = [message.get("content", "") for message in entry["messages"] if message.get("role") == "user"]
    system = next((message["content"] for message in entry["messages"] if message.get("role") == "system"), None)
    reference = [None] * (len(turns) - 1) + [entry.get("reference")]
    category = entry.get("subject") or entry.get("category") or "general"
    return {
        "turns": turns,
        "system": system,
        "category": category,
        "references": reference if entry.get("reference") else [],
        **({"id": str(entry["id"])} if "id" in entry else {}),
    }


def _fastchat(entry: dict[str, Any]) -> dict[str, Any]:
    category = entry.get("category", "general")
    return {
        "id": str(entry["question_id"]),
        "category": category,
        "turns": entry["turns"],
        "references": entry.get("reference") or [],
        "temperature": _TEMPERATURES.get(category, 0.7),
    }


def _instruction(entry: dict[str, Any]) -> dict[str, Any]:
    """ColossalEval's and AlpacaEval's rows. The latter's ``output`` is a baseline's answer, which is no reference."""
    turn = "\n\n".join(filter(None, (entry["instruction"], entry.get("input"))))
    target = entry.get("target") or None
    target = "\n".join(target) if isinstance(target, list) else target
    category = entry.get("category") or entry.get("dataset") or "general"
    # ColossalEval counts ids anew in every category
    identity = {"id": f"{category}-{entry['id']}"} if "id" in entry else {}
    return {"turns": [turn], "category": category, "references": [target] if target else [], **identity}


def _belle(entry: dict[str, Any]) -> dict[str, Any]:
    answer = entry.get("std_answer") or None
    return {"turns": [entry["question"]], "category": entry["class"], "references": [answer] if answer else []}


_LAYOUTS: list[tuple[set[str], Callable[[dict[str, Any]], dict[str, Any]]]] = [
    ({"question_id", "turns"}, _fastchat),
    ({"turns"}, _ours),
    ({"messages"}, _canonical),
    ({"question", "class"}, _belle),
    ({"instruction"}, _instruction),
]
"""By which fields a row's layout is known; the first that fits counts."""


def _answers(text: str) -> dict[str, list[str]]:
    """Reference answers by question id: those of the first choice (FastChat's ``reference_answer/*.jsonl``)."""
    found = {}
    for place, entry in objects(text, "the references"):
        try:
            found[str(entry["question_id"])] = list(entry["choices"][0]["turns"])
        except (KeyError, IndexError, TypeError):
            raise DataError(f"{place} is no reference answer: it needs question_id and choices[0].turns.") from None
    return found
