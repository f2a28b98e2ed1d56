"""What a data file is, before anything is trained on it: kinds, formats, bad rows, duplicates, lengths, what would be learnt."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelkit import atomic
from modelkit.chat import PLAIN_TEMPLATE, EncodedChat, HistoryRewritten, encode_chat, encode_prompt, verify_template
from modelkit.errors import DataError
from trainers.data import formats
from trainers.data.files import Place, Source, open_source
from trainers.data.formats import Kind, Loaded, Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CONTEXTS = (512, 1024, 2048, 4096, 8192)
_SPECIFIC: tuple[Kind, ...] = ("preference", "unpaired", "sft", "text", "prompts")
"""From what few files can serve as to what most can."""


@dataclass(frozen=True)
class Passage:
    """A piece of a conversation as the template writes it, and whether the loss looks at its tokens."""

    text: str
    trained: bool


@dataclass
class Report:
    """What :func:`check` found. ``usable`` maps each kind to the number of rows that the file gives of it.

    ``lengths`` are in ``unit``s, of whole sequences: of a pair, the longer side.
    """

    loaded: Loaded
    kind: Kind
    raw: int
    usable: dict[Kind, int]
    duplicates: int
    repeated_prompts: int
    lengths: list[int]
    unit: str
    preview: list[list[Passage]] = field(default_factory=list)

    def fitting(self, context: int) -> float:
        """The share of rows that a context of so many units holds."""
        return sum(length <= context for length in self.lengths) / max(1, len(self.lengths))


class _Kept(Source):
    """A source whose raw rows were read once, for several looks at them."""

    def __init__(self, source: Source) -> None:
        super().__init__(source.name, source.sha256, source.files, source.notes)
        self._rows = list(source.rows())

    def rows(self) -> Iterator[tuple[Place, Any]]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


def check(
    name: str | Path,
    columns: Mapping[str, str] | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    kind: Kind | None = None,
    strict: bool = False,
) -> Report:
    """Look at a source as *kind*, or as the most specific kind that at least half of its rows can serve as.

    With a tokenizer, lengths are in tokens and the first row is shown as it would be trained on; else in characters.

    :raises UserError: when it can't be read or no row is usable, and for the first bad row if *strict*.
    """
    source = _Kept(open_source(name))
    found = {one: formats.convert(source, one, columns) for one in _SPECIFIC}
    likely = [one for one in _SPECIFIC if 2 * len(found[one].bad) <= len(source) and found[one].rows]
    guess: Kind = likely[0] if likely else max(_SPECIFIC, key=lambda one: len(found[one].rows))
    seen_as: Kind = guess if kind is None else kind
    loaded = found[seen_as]
    if not loaded.rows:
        shown = found[kind or "sft"]
        why = f"; the first problem: {shown.bad[0]}" if shown.bad else ""
        raise DataError(
            f"{name} has no usable row of {f'kind {kind}' if kind else 'any kind'}{why}: map its fields (--columns OURS=THEIRS)."
        )
    if strict and loaded.bad:
        raise DataError(f"{loaded.bad[0]} (strict: mend the row, or let bad rows be put aside).")
    seen = [json.dumps(row, sort_keys=True) for row in loaded.rows]
    prompts = [json.dumps(row.get("messages", row.get("text")), sort_keys=True) for row in loaded.rows]
    report = Report(
        loaded,
        seen_as,
        raw=len(source),
        usable={one: len(found[one].rows) for one in formats.KINDS},
        duplicates=len(seen) - len(set(seen)),
        repeated_prompts=len(prompts) - len(set(prompts)),
        lengths=[_characters(row) for row in loaded.rows],
        unit="characters",
    )
    if tokenizer is not None:
        _tokens(report, tokenizer)
    return report


def histogram(lengths: Sequence[int]) -> list[tuple[int, int, int]]:
    """(from, to, rows) for bins whose bounds double, without empty ones at either end. ``from`` is inclusive, ``to`` is not."""
    if not lengths:
        return []
    first, last = (max(3, length.bit_length() - 1) for length in (min(lengths), max(lengths)))
    bounds = [0 if i == 3 else 2**i for i in range(first, last + 2)]
    return [(low, high, sum(low <= length < high for length in lengths)) for low, high in itertools.pairwise(bounds)]


def write(loaded: Loaded, out: Path) -> Path | None:
    """Write canonical rows as JSON Lines, in one step; the bad rows go to ``<out>.bad_rows.jsonl``, whose path is returned.

    :raises DataError: when there is something at *out* already, or its name isn't one of JSON Lines.
    """
    if out.suffix != ".jsonl":
        raise DataError(f"{out} would be JSON Lines: let its name end in .jsonl.")
    if out.exists():
        raise DataError(f"{out} is there already: choose another name, or delete it.")
    atomic.write_text(out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in loaded.rows))
    if not loaded.bad:
        return None
    aside = out.with_suffix(".bad_rows.jsonl")
    atomic.write_text(aside, "".join(problem.line() for problem in loaded.bad))
    return aside


def _characters(row: Row) -> int:
    replies = [len(row[side]) for side in ("chosen", "rejected", "reply") if side in row]
    said = sum(len(message["content"]) for message in row.get("messages", []))
    return said + max(replies, default=0) + len(row.get("text", ""))


def _tokens(report: Report, tokenizer: PreTrainedTokenizerBase) -> None:
    """Measure in tokens, and show the first row."""
    rows = report.loaded.rows
    if report.kind == "text":
        encoded = tokenizer([row["prompt"] + row["text"] for row in rows], add_special_tokens=False, verbose=False)["input_ids"]
        report.lengths = [len(ids) + 2 for ids in encoded]
    else:
        if tokenizer.chat_template is None:
            tokenizer.chat_template = PLAIN_TEMPLATE
            report.loaded.notes.append("the tokenizer has no chat template: the plain one is used, as in training")
        verify_template(tokenizer)
        report.lengths = [max(len(chat.ids) for chat in _encoded(row, report.kind, tokenizer)) for row in rows]
        report.preview = [_passages(chat, tokenizer) for chat in _encoded(rows[0], report.kind, tokenizer)]
    report.unit = "tokens"


def _encoded(row: Row, kind: Kind, tokenizer: PreTrainedTokenizerBase) -> list[EncodedChat]:
    """The sequences that a row gives in training."""
    if kind == "prompts":
        ids = encode_prompt(tokenizer, row["messages"])
        return [EncodedChat(ids, [False] * len(ids))]
    replies = [row[side] for side in ("chosen", "rejected", "reply") if side in row]
    if replies:
        return [encode_chat(tokenizer, [*row["messages"], {"role": "assistant", "content": reply}], last_only=True) for reply in replies]
    try:
        return [encode_chat(tokenizer, row["messages"])]
    except HistoryRewritten:
        ends = [i + 1 for i, message in enumerate(row["messages"]) if message["role"] == "assistant"]
        return [encode_chat(tokenizer, row["messages"][:end], last_only=True) for end in ends]


def _passages(chat: EncodedChat, tokenizer: PreTrainedTokenizerBase) -> list[Passage]:
    passages = []
    start = 0
    for i in range(1, len(chat.ids) + 1):
        if i == len(chat.ids) or chat.assistant[i] != chat.assistant[start]:
            text = tokenizer.decode(chat.ids[start:i], skip_special_tokens=False, clean_up_tokenization_spaces=False)
            passages.append(Passage(str(text), chat.assistant[start]))
            start = i
    return passages
