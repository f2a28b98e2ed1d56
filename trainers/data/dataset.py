"""Rows → token sequences with labels; whatever does not fit is counted."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from modelkit.chat import encode_chat, encode_prompt
from modelkit.checkpoint import DataSource
from modelkit.errors import UserError
from trainers.data import formats
from trainers.data.formats import Kind, Row
from trainers.recipe import Mixture
from trainers.seeds import derive

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Example:
    """One sequence to learn from: ``labelled`` marks the tokens whose prediction counts (never the first).

    ``start`` is the share of a stage's steps after which the example joins in.
    """

    ids: list[int]
    labelled: list[bool]
    start: float = 0.0


@dataclass(frozen=True)
class Pair:
    """Two complete conversations with the same prompt, the first preferred (by *margin*, where a grade is known).

    ``starts`` are the positions where the two replies begin; pairs of one ranked list of answers share its ``ranking``.
    """

    chosen: list[int]
    rejected: list[int]
    starts: tuple[int, int] = (0, 0)
    margin: float = 0.0
    ranking: str | None = None


@dataclass(frozen=True)
class Prompt:
    """Token ids that open the assistant's turn, the text they came from, and the right answer where one is known."""

    ids: list[int]
    text: str
    reference: str | None = None


@dataclass
class Counts:
    """What happened to the rows of a stage's data: nothing is dropped or cut silently."""

    rows: int = 0
    used: int = 0
    bad: int = 0
    dropped: int = 0
    truncated: int = 0
    sources: list[DataSource] = field(default_factory=list)
    first_problem: str | None = None


def read(mixture: Sequence[Mixture], folder: Path, kind: Kind, seed: int, counts: Counts) -> list[Row]:
    """The rows of several files; a file of weight w contributes w times its rows (a fraction is a random subset)."""
    rows: list[Row] = []
    for part in mixture:
        loaded = formats.load(folder / part.path, kind)
        counts.rows += len(loaded.rows) + len(loaded.bad)
        counts.bad += len(loaded.bad)
        counts.first_problem = counts.first_problem or (loaded.bad[0] if loaded.bad else None)
        counts.sources.append(DataSource(path=part.path, sha256=loaded.sha256, rows=len(loaded.rows)))
        whole, rest = divmod(part.weight, 1)
        chosen = loaded.rows * int(whole)
        if rest:
            chosen += random.Random(derive(seed, "mixture", part.path)).sample(loaded.rows, int(len(loaded.rows) * rest))
        rows += [{**row, "start": part.start} for row in chosen] if part.start else chosen
    return rows


def text_examples(rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, context: int, counts: Counts) -> list[Example]:
    """Plain texts, each between begin- and end-of-sequence; longer ones are cut into pieces of *context* tokens.

    A row's ``prompt`` is read before its text but not learnt.
    """
    examples = []
    prompts = tokenizer([row["prompt"] for row in rows], add_special_tokens=False, verbose=False)["input_ids"]
    for row, prompt, ids in zip(
        rows,
        prompts,
        tokenizer([row["prompt"] + row["text"] for row in rows], add_special_tokens=False, verbose=False)["input_ids"],
        strict=True,
    ):
        whole = [tokenizer.bos_token_id, *ids, tokenizer.eos_token_id]
        labelled = [False] * (1 + len(prompt)) + [True] * (len(whole) - 1 - len(prompt))
        for at in range(0, len(whole), context):
            piece = Example(whole[at : at + context], [False, *labelled[at + 1 : at + context]], row.get("start", 0.0))
            if any(piece.labelled):
                examples.append(piece)
        counts.used += 1
    return examples


def chat_examples(rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, context: int, counts: Counts) -> list[Example]:
    """Conversations with the assistant's tokens labelled. Cut at *context*; dropped when no labelled token is left."""
    examples = []
    for row in rows:
        chat = encode_chat(tokenizer, row["messages"])
        ids, labelled = chat.ids[:context], chat.assistant[:context]
        if not any(labelled[1:]):
            counts.dropped += 1
            continue
        counts.truncated += len(chat.ids) > context
        counts.used += 1
        examples.append(Example(ids, [False, *labelled[1:]]))
    return _some(examples, "conversation", context)


def pairs(rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, context: int, counts: Counts) -> list[Pair]:
    """Preference pairs. One with a side longer than *context* is dropped: cut, it would be judged by half an answer."""
    result = []
    for row in rows:
        better, worse = (
            encode_chat(tokenizer, [*row["messages"], {"role": "assistant", "content": row[side]}]) for side in ("chosen", "rejected")
        )
        if max(len(better.ids), len(worse.ids)) > context or better.ids == worse.ids:
            counts.dropped += 1
            continue
        counts.used += 1
        starts = better.prompt_length, worse.prompt_length
        result.append(Pair(better.ids, worse.ids, starts, float(row.get("margin") or 0.0), row.get("ranking")))
    return _some(result, "preference pair", context)


def prompts(rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, context: int, counts: Counts) -> list[Prompt]:
    """Prompts of at most *context* tokens (the caller leaves room for the answer); longer ones are dropped."""
    result = []
    for row in rows:
        ids = encode_prompt(tokenizer, row["messages"])
        if len(ids) > context:
            counts.dropped += 1
            continue
        counts.used += 1
        result.append(Prompt(ids, row["messages"][-1]["content"], row.get("reference")))
    return _some(result, "prompt", context)


def _some(items, what: str, context: int):
    if not items:
        raise UserError(f"no {what} fits into the model's context of {context} tokens: use other data or a model with a longer context.")
    return items
