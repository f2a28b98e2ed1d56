"""Readers: the files people have → canonical rows (design §3.4). A bad row is named by file and line, counted, put aside."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from modelkit.errors import UserError
from modelkit.fingerprint import sha256_of_file, sha256_of_text

Kind = Literal["sft", "preference", "prompts", "text"]
Row = dict[str, Any]
_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "bot": "assistant", "system": "system"}
_TURN = re.compile(r"\n\n(Human|Assistant):")


@dataclass
class Loaded:
    """The usable rows of one file, and how many were not (with the first few named)."""

    path: Path
    sha256: str
    format: str
    rows: list[Row] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)


class BadRow(ValueError):
    """A row that can't be used; the message says why."""


def load(path: Path, kind: Kind) -> Loaded:
    """Read *path* (.json, .jsonl, .csv, .parquet, each also as .gz; .txt for text) as rows of *kind*.

    The format is detected row by row: canonical, Alpaca, ShareGPT, ColossalChat, LLaMA-Factory's ranking, ranked answer lists,
    hh-rlhf transcripts, plain text. Preference and SFT rows also serve as prompts.

    :raises UserError: when the file is missing, unreadable or empty, or when not a single row can be used.
    """
    if not path.is_file():
        raise UserError(f"there is no data file at {path}.")
    loaded = Loaded(path, sha256_of_file(path), "")
    formats: dict[str, int] = {}
    for where, raw in _raw_rows(path):
        try:
            if isinstance(raw, BadRow):
                raise raw
            for name, row in _convert(raw, kind):
                formats[name] = formats.get(name, 0) + 1
                loaded.rows.append(row)
        except BadRow as problem:
            loaded.bad.append(f"{where}: {problem}")
    loaded.format = ", ".join(sorted(formats))
    if not loaded.rows:
        why = f"; the first problem: {loaded.bad[0]}" if loaded.bad else ""
        raise UserError(f"{path} has no usable {kind} row{why}.")
    return loaded


def _raw_rows(path: Path) -> Iterator[tuple[str, Any]]:
    """(where, raw row or BadRow) for every row of a file."""
    name = path.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        import pandas

        for i, row in enumerate(pandas.read_parquet(path).to_dict("records")):
            yield f"{path}: row {i + 1}", row
        return
    opener: Callable[..., Any] = gzip.open if path.name.endswith(".gz") else open
    try:
        with opener(path, "rb") as file:
            text = file.read().decode("utf-8-sig")
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError) as error:
        raise UserError(f"{path} can't be read as UTF-8 text ({error}).") from None
    if name.endswith(".csv"):
        for i, row in enumerate(csv.DictReader(io.StringIO(text, newline=""))):
            yield f"{path}:{i + 2}", row
    elif name.endswith(".txt"):
        for i, line in enumerate(text.splitlines()):
            if line.strip():
                yield f"{path}:{i + 1}", {"text": line}
    elif text.lstrip().startswith("["):
        try:
            rows = json.loads(text)
        except json.JSONDecodeError as error:
            raise UserError(f"{path}:{error.lineno} is not valid JSON ({error.msg}).") from None
        for i, row in enumerate(rows):
            yield f"{path}: row {i + 1}", row
    else:
        for i, line in enumerate(text.split("\n")):
            if line.strip():
                try:
                    yield f"{path}:{i + 1}", json.loads(line)
                except json.JSONDecodeError as error:
                    yield f"{path}:{i + 1}", BadRow(f"not valid JSON ({error.msg})")


def _convert(raw: Any, kind: Kind) -> Iterator[tuple[str, Row]]:
    if not isinstance(raw, dict):
        raise BadRow("not an object")
    if kind == "text":
        prompt = raw.get("prompt") or ""
        if not isinstance(prompt, str):
            raise BadRow("the prompt is not text")
        yield "text", {"text": _text(raw, "text"), "prompt": prompt, "category": raw.get("category")}
    elif kind == "sft":
        name, messages = _conversation(raw)
        if messages[-1]["role"] != "assistant":
            raise BadRow("the conversation does not end with the assistant")
        yield name, {"messages": messages}
    elif kind == "prompts":
        name, messages = _conversation(raw)
        while messages and messages[-1]["role"] != "user":
            messages = messages[:-1]
        if not messages:
            raise BadRow("there is no user turn to answer")
        yield name, {"messages": messages, "reference": raw.get("reference"), "category": raw.get("category")}
    else:
        yield from _preferences(raw)


def _conversation(raw: Row) -> tuple[str, list[Row]]:
    """The messages of a row in any format (a preference row gives its prompt)."""
    if "messages" in raw:
        return "messages", _messages(raw["messages"])
    if "conversations" in raw:
        return "sharegpt", _messages(raw["conversations"])
    if "instruction" in raw:
        question = "\n".join(part for part in (_text(raw, "instruction"), str(raw.get("input") or "")) if part)
        output = raw.get("output", raw.get("response"))
        answer = output[0] if isinstance(output, list) and output else output
        system = [{"role": "system", "content": raw["system"]}] if raw.get("system") else []
        history = [
            turn
            for pair in raw.get("history") or []
            for turn in ({"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]})
        ]
        messages = [*system, *history, {"role": "user", "content": question}]
        if isinstance(answer, str) and answer.strip():
            messages.append({"role": "assistant", "content": answer})
        return "alpaca", messages
    if "context" in raw:
        return "colossalchat", _messages(raw["context"])
    if isinstance(raw.get("prompt"), str):
        return "prompt", [{"role": "user", "content": _text(raw, "prompt")}]
    if isinstance(raw.get("chosen"), str) and "\n\nHuman:" in raw["chosen"]:
        return "hh-rlhf", _transcript(raw["chosen"])[:-1]
    raise BadRow(f"none of the known formats (its fields: {', '.join(sorted(raw)) or 'none'})")


def _preferences(raw: Row) -> Iterator[tuple[str, Row]]:
    chosen, rejected = raw.get("chosen"), raw.get("rejected")
    if isinstance(chosen, str) and isinstance(rejected, str) and "\n\nHuman:" in chosen:
        one, two = _transcript(chosen), _transcript(rejected)
        if one[:-1] != two[:-1] or one[-1]["role"] != "assistant" or two[-1]["role"] != "assistant":
            raise BadRow("the two transcripts differ before their last turn")
        yield "hh-rlhf", _preference(one[:-1], one[-1]["content"], two[-1]["content"], "hh-rlhf")
        return
    if isinstance(raw.get("output"), list):
        _, messages = _conversation({**raw, "output": None})
        ranked = [answer for answer in raw["output"] if isinstance(answer, str) and answer.strip()]
        if len(ranked) < 2:
            raise BadRow("fewer than two ranked answers")
        ranking = sha256_of_text(json.dumps([messages, ranked]))
        for better, worse in itertools.combinations(dict.fromkeys(ranked), 2):
            yield "ranked", {**_preference(messages, better, worse, "ranked"), "ranking": ranking}
        return
    if chosen is None or rejected is None:
        raise BadRow("no chosen and rejected answer")
    if not isinstance(raw.get("margin", 0), int | float):
        raise BadRow("the margin is not a number")
    name, messages = _conversation(raw)
    while messages and messages[-1]["role"] != "user":
        messages = messages[:-1]
    yield (
        name,
        {
            **_preference(messages, _answer(chosen), _answer(rejected), raw.get("source") or name),
            **{k: raw[k] for k in ("subject", "category", "margin", "ranking") if k in raw},
        },
    )


def _preference(messages: list[Row], chosen: str, rejected: str, source: str) -> Row:
    if not messages:
        raise BadRow("there is no prompt")
    if not chosen.strip() or not rejected.strip():
        raise BadRow("an empty answer")
    if chosen == rejected:
        raise BadRow("chosen and rejected are the same text")
    return {"messages": messages, "chosen": chosen, "rejected": rejected, "source": source}


def _answer(value: Any) -> str:
    """An answer as text: a string, one message, or a list whose last message counts."""
    if isinstance(value, list) and value:
        value = value[-1]
    if isinstance(value, dict):
        value = value.get("content", value.get("value"))
    if not isinstance(value, str):
        raise BadRow("an answer is not text")
    return value


def _messages(turns: Any) -> list[Row]:
    if not isinstance(turns, list) or not turns:
        raise BadRow("the conversation is empty")
    messages = []
    for turn in turns:
        if not isinstance(turn, dict):
            raise BadRow("a turn is not an object")
        role = _ROLES.get(str(turn.get("role", turn.get("from"))))
        content = turn.get("content", turn.get("value"))
        if role is None or not isinstance(content, str):
            raise BadRow(f"a turn with role {turn.get('role', turn.get('from'))!r} and no text or an unknown role")
        if not content.strip():
            raise BadRow("an empty turn")
        messages.append({"role": role, "content": content})
    return messages


def _transcript(text: str) -> list[Row]:
    """An hh-rlhf transcript as messages."""
    pieces = _TURN.split("\n\n" + text.lstrip())[1:]
    messages = [
        {"role": "user" if who == "Human" else "assistant", "content": said.strip()}
        for who, said in zip(pieces[::2], pieces[1::2], strict=True)
    ]
    if not messages or any(not message["content"] for message in messages):
        raise BadRow("an empty turn")
    return messages


def _text(raw: Row, key: str) -> str:
    value = raw.get(key)
    if not isinstance(value, str) or not value.strip():
        raise BadRow(f"no text in field {key!r}")
    return value
