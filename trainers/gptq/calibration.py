"""Token sequences for the layers to be quantised on: conversations through the chat template, or windows of plain text."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from modelkit import checkpoint
from modelkit.chat import Message, encode_chat, encode_prompt
from modelkit.errors import UserError
from trainers.data import formats
from trainers.data.dataset import Counts, DataSource
from trainers.data.formats import Kind, Loaded, Row
from trainers.seeds import derive

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_CHARACTERS = 8
"""Characters cut out per token wanted: more than any tokenizer puts in a token on average."""


def default_files(model: Path) -> list[Path]:
    """The files that a run's checkpoint says it was trained on, where they lie beside it.

    :raises UserError: when there are none.
    """
    stage = checkpoint.read_stage(model)
    files = [model.parent / "data" / source.path for source in stage.data] if stage else []
    found = [file for file in files if file.is_file()]
    if not found:
        raise UserError(f"{model} does not say what it was trained on: name texts or conversations with --calibration FILE.")
    return found


def sequences(
    files: Sequence[Path], tokenizer: PreTrainedTokenizerBase, samples: int, length: int, seed: int, counts: Counts
) -> list[list[int]]:
    """*samples* token sequences of at most *length*, evenly from all *files*, fewer where there isn't more.

    :raises UserError: when a file can't be read or gives nothing.
    """
    result: list[list[int]] = []
    for i, file in enumerate(files):
        share = samples * (i + 1) // len(files) - samples * i // len(files)
        loaded = _load(file)
        counts.rows += len(loaded.rows) + len(loaded.bad)
        counts.bad += len(loaded.bad)
        counts.problems += loaded.bad
        counts.sources.append(DataSource(path=file.name, sha256=loaded.sha256, rows=len(loaded.rows)))
        draw = random.Random(derive(seed, "calibration", i))
        if "messages" in loaded.rows[0] and tokenizer.chat_template:
            chosen = draw.sample(loaded.rows, min(share, len(loaded.rows)))
            taken = [_encode(tokenizer, row["messages"]) for row in chosen]
        else:
            taken = _windows("\n".join(map(_plain, loaded.rows)), tokenizer, share, length, draw)
        counts.truncated += sum(len(ids) > length for ids in taken)
        result += [ids[:length] for ids in taken]
    counts.used = len(result)
    if not result:
        raise UserError(f"{samples} samples are too few for {len(files)} calibration files: raise --samples.")
    return result


def _load(file: Path) -> Loaded:
    """A file's conversations, texts or prompts, whichever it holds."""
    kinds: tuple[Kind, ...] = ("text",) if file.name.removesuffix(".gz").endswith(".txt") else ("sft", "text", "prompts")
    problems: list[UserError] = []
    for kind in kinds:
        try:
            return formats.load(file, kind)
        except UserError as problem:
            problems.append(problem)
    raise problems[0]


def _encode(tokenizer: PreTrainedTokenizerBase, messages: list[Message]) -> list[int]:
    return encode_chat(tokenizer, messages).ids if messages[-1]["role"] == "assistant" else encode_prompt(tokenizer, messages)


def _windows(text: str, tokenizer: PreTrainedTokenizerBase, share: int, length: int, draw: random.Random) -> list[list[int]]:
    """Pieces from random places of one long text, each behind the begin-of-sequence token where the tokenizer has one."""
    opening = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    reach = length * _CHARACTERS
    starts = [draw.randrange(max(1, len(text) - reach)) for _ in range(share if len(text) > reach else min(share, 1))]
    pieces = tokenizer([text[start : start + reach] for start in starts], add_special_tokens=False, verbose=False)["input_ids"]
    return [(opening + ids)[:length] for ids in pieces]


def _plain(row: Row) -> str:
    return row["text"] if "text" in row else "\n".join(message["content"] for message in row["messages"])
