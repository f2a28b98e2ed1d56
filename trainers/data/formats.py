"""The formats people have → canonical rows (design of the data: docs/data.md). A bad row is named, counted, put aside."""

from __future__ import annotations

import difflib
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from modelkit.errors import DataError, UserError
from modelkit.fingerprint import sha256_of_text
from trainers.data.conversations import Row, answered, asking, conversation, messages_of, text_of, transcript
from trainers.data.files import BadRow, Place, Source, open_source

Kind = Literal["sft", "preference", "prompts", "text", "unpaired"]
KINDS: tuple[Kind, ...] = get_args(Kind)
FIELDS = (
    *("messages", "conversations", "context", "system", "history", "instruction", "input", "output", "response", "completion", "answer"),
    *("prompt", "chosen", "rejected", "reply", "label", "desirable", "text", "reference", "category", "subject", "source"),
    *("margin", "ranking"),
)
"""The names that the readers know, and that ``columns`` may give to a file's own."""

_LABELS = {True: ("true", "1", "desirable", "chosen", "good"), False: ("false", "0", "undesirable", "rejected", "bad")}


@dataclass(frozen=True)
class Problem:
    """A row that was put aside: where it stands, why, and what it holds (``None`` when it couldn't even be read)."""

    place: Place
    reason: str
    row: Any = None

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"

    def line(self) -> str:
        """One line of ``bad_rows.jsonl``."""
        entry = {"file": self.place.file, "line": self.place.line, "row": self.place.row, "reason": self.reason, "content": self.row}
        return json.dumps(entry, ensure_ascii=True, default=str) + "\n"


@dataclass
class Loaded:
    """The usable rows of one source and where each stands, how many came in which format, and the rows that were not usable."""

    path: str
    sha256: str
    rows: list[Row] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    bad: list[Problem] = field(default_factory=list)
    formats: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    @property
    def format(self) -> str:
        """The formats that were found, most frequent first."""
        return ", ".join(name for name, _ in self.formats.most_common())


def load(source: str | Path, kind: Kind, columns: Mapping[str, str] | None = None, strict: bool = False) -> Loaded:
    """Read a source (:func:`trainers.data.files.open_source`) as canonical rows of *kind*; each row's format is detected for itself.

    :param columns: our name → the file's own, for files whose fields are called otherwise.
    :raises UserError: when it is missing, unreadable or empty, when not a single row can be used, and for the first bad row
        if *strict*.
    """
    loaded = convert(open_source(source), kind, columns, strict)
    if not loaded.rows:
        why = f"; the first problem: {loaded.bad[0]}" if loaded.bad else ""
        raise DataError(
            f"{source} has no usable {kind} row{why}: see what it holds with `trainers data check`, or map its fields (columns)."
        )
    return loaded


def convert(source: Source, kind: Kind, columns: Mapping[str, str] | None = None, strict: bool = False) -> Loaded:
    """Like :func:`load`, from an opened source; here no usable row is no error."""
    columns = check_columns(columns or {})
    loaded = Loaded(source.name, source.sha256, notes=source.notes)
    for place, raw in source.rows():
        try:
            if isinstance(raw, BadRow):
                raise raw
            for name, row in canonical(raw, kind, columns):
                loaded.formats[name] += 1
                loaded.rows.append(row)
                loaded.places.append(str(place))
        except BadRow as problem:
            found = Problem(place, str(problem), None if isinstance(raw, BadRow) else raw)
            if strict:
                raise DataError(f"{found} (strict: mend the row, or let bad rows be put aside).") from None
            loaded.bad.append(found)
    return loaded


def check_columns(columns: Mapping[str, str]) -> Mapping[str, str]:
    """*columns*, when all the names it gives are known.

    :raises UserError: with the nearest known name.
    """
    for name in columns:
        if name not in FIELDS:
            near = difflib.get_close_matches(name, FIELDS, 1)
            raise UserError(f"columns: {name!r} is no field of any format{f', did you mean {near[0]!r}?' if near else '.'}")
    return columns


def canonical(raw: Any, kind: Kind, columns: Mapping[str, str]) -> Iterator[tuple[str, Row]]:
    """(format, canonical row) for each row of *kind* that a raw row gives: one, or several for ranked answers.

    :raises BadRow: when it gives none.
    """
    if not isinstance(raw, dict):
        raise BadRow("not an object")
    for theirs in columns.values():
        if theirs not in raw:
            raise BadRow(f"no field {theirs!r} (its fields: {', '.join(map(str, raw)) or 'none'})")
    raw = {**{key: value for key, value in raw.items() if key not in columns.values()}, **{o: raw[t] for o, t in columns.items()}}
    for name, row in _READERS[kind](raw):
        _check_text(row)
        yield name, row


# -- one reader for each kind ----------------------------------------------------------------------------------------------


def _texts(raw: Row) -> Iterator[tuple[str, Row]]:
    name, learnt, read = ("colossalai", "target", "source") if "target" in raw and "text" not in raw else ("text", "text", "prompt")
    prompt = raw.get(read) or ""
    if not isinstance(prompt, str):
        raise BadRow(f"the {read} is not text")
    yield name, {"text": text_of(raw, learnt), "prompt": prompt, "category": raw.get("category")}


def _dialogues(raw: Row) -> Iterator[tuple[str, Row]]:
    if _label(raw) is False:
        raise BadRow("a reply that is labelled undesirable is nothing to imitate")
    if isinstance(raw.get("instances"), list) and all(isinstance(instance, dict) for instance in raw["instances"]):
        for instance in raw["instances"]:
            _, messages = conversation({**raw, **instance})
            yield "self-instruct", {"messages": answered(messages)}
        return
    if "chosen" in raw:
        name, row = next(_preferences(raw))
        yield name, {"messages": [*row["messages"], {"role": "assistant", "content": row["chosen"]}]}
        return
    name, messages = conversation(raw)
    yield name, {"messages": answered(messages)}


def _prompts(raw: Row) -> Iterator[tuple[str, Row]]:
    name, messages = conversation(raw)
    answer = raw.get("reference", raw.get("gt_answer"))
    yield name, {"messages": asking(messages), "reference": None if answer is None else str(answer), "category": raw.get("category")}


def _preferences(raw: Row) -> Iterator[tuple[str, Row]]:
    chosen, rejected = raw.get("chosen"), raw.get("rejected")
    if isinstance(chosen, str) and isinstance(rejected, str) and "\n\nHuman:" in chosen:
        yield "hh-rlhf", _preference(*_apart(transcript(chosen), transcript(rejected)), "hh-rlhf")
        return
    if isinstance(raw.get("output"), list):
        _, messages = conversation({**raw, "output": None})
        ranked = list(dict.fromkeys(answer for answer in raw["output"] if isinstance(answer, str) and answer.strip()))
        if len(ranked) < 2:
            raise BadRow("fewer than two different ranked answers")
        ranking = sha256_of_text(json.dumps([messages, ranked]))
        for better, worse in itertools.combinations(ranked, 2):
            yield "ranked", {**_preference(messages, better, worse, "ranked"), "ranking": ranking}
        return
    if chosen is None or rejected is None:
        raise BadRow("no chosen and rejected answer")
    if not isinstance(raw.get("margin", 0), int | float):
        raise BadRow("the margin is not a number")
    name, messages, better, worse = _sides(raw)
    row = _preference(messages, better, worse, raw.get("source") or name)
    yield name, {**row, **{key: raw[key] for key in ("subject", "category", "margin", "ranking") if key in raw}}


def _unpaired(raw: Row) -> Iterator[tuple[str, Row]]:
    label = _label(raw)
    if label is None:
        if "chosen" not in raw and not isinstance(raw.get("output"), list):
            raise BadRow("no label that says whether the reply is desirable")
        rows = list(_preferences(raw))
        name, first = rows[0]
        for reply, desirable in ((first["chosen"], True), (rows[-1][1]["rejected"], False)):  # of a ranking, the best and the worst
            yield name, {"messages": first["messages"], "reply": reply, "desirable": desirable, "source": first["source"]}
        return
    if isinstance(raw.get("reply"), str):
        name, messages = "canonical", [*messages_of(raw.get("messages")), {"role": "assistant", "content": text_of(raw, "reply")}]
    else:
        name, messages = "kto", answered(conversation(raw)[1])
    source = raw.get("source") or name
    yield name, {"messages": asking(messages), "reply": messages[-1]["content"], "desirable": label, "source": source}


_READERS = {"text": _texts, "sft": _dialogues, "prompts": _prompts, "preference": _preferences, "unpaired": _unpaired}

# -- answers ---------------------------------------------------------------------------------------------------------------


def _sides(raw: Row) -> tuple[str, list[Row], str, str]:
    """(format, prompt, chosen, rejected) of a row that has both sides as texts, messages or lists of messages."""
    lists = [raw[side] for side in ("chosen", "rejected") if isinstance(raw[side], list) and len(raw[side]) > 1]
    if lists and not ("context" in raw or "messages" in raw or "conversations" in raw):  # whole conversations, the prompt among them
        return "messages", *_apart(messages_of(raw["chosen"]), messages_of(raw["rejected"]))
    name, messages = conversation(raw)
    if lists:  # a continuation of several turns after the context
        return name, *_apart(messages_of([*messages, *raw["chosen"]]), messages_of([*messages, *raw["rejected"]]))
    return name, asking(messages), _answer(raw["chosen"]), _answer(raw["rejected"])


def _apart(chosen: list[Row], rejected: list[Row]) -> tuple[list[Row], str, str]:
    """(prompt, chosen, rejected) of two whole conversations."""
    if chosen[:-1] != rejected[:-1] or {chosen[-1]["role"], rejected[-1]["role"]} != {"assistant"}:
        raise BadRow("the two conversations differ before their last turn")
    return chosen[:-1], chosen[-1]["content"], rejected[-1]["content"]


def _preference(messages: list[Row], chosen: str, rejected: str, source: str) -> Row:
    if not chosen.strip() or not rejected.strip():
        raise BadRow("an empty answer")
    if chosen == rejected:
        raise BadRow("chosen and rejected are the same text")
    return {"messages": asking(messages), "chosen": chosen, "rejected": rejected, "source": source}


def _answer(value: Any) -> str:
    """An answer as text: a string, or one message (alone or in a list)."""
    if isinstance(value, list) and value:
        value = value[-1]
    if isinstance(value, dict):
        value = value.get("content", value.get("value"))
    if not isinstance(value, str):
        raise BadRow("an answer is not text")
    return value


def _label(raw: Row) -> bool | None:
    """Whether a row's reply is labelled desirable; ``None`` without a label that says so."""
    value = next((raw[key] for key in ("desirable", "label", "kto_tag") if key in raw), None)
    return next((truth for truth, words in _LABELS.items() if str(value).lower() in words), None)


def _check_text(row: Row) -> None:
    """Refuse what a tokenizer would choke on or what no file should hold: NUL characters, halves of surrogate pairs."""
    texts = [value for value in row.values() if isinstance(value, str)] + [message["content"] for message in row.get("messages", [])]
    for text in texts:
        if "\0" in text:
            raise BadRow("a NUL character in a text")
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise BadRow("half of a surrogate pair in a text (a broken emoji, most of the time)") from None
