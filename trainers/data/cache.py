"""Token ids that were made before: a file for each (rows, tokenizer, template), checked before it is believed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelkit import atomic
from modelkit.chat import EncodedChat

if TYPE_CHECKING:
    import numpy
    from transformers import PreTrainedTokenizerBase

_FORMAT = "1"


@dataclass
class TokenCache:
    """A folder of tokenised rows, which may be deleted at any time; ``rebuilt`` counts files that were found damaged."""

    folder: Path
    hits: int = 0
    misses: int = 0
    rebuilt: int = 0

    def encoded(
        self, how: str, tokenizer: PreTrainedTokenizerBase, rows: Sequence[Any], encode: Callable[[], list[EncodedChat]]
    ) -> list[EncodedChat]:
        """What *encode* makes of *rows*, from the cache when the same rows went through the same tokenizer and template before.

        :param how: names what *encode* does; a part of the key, as are the contents of *rows*, which must be JSON values.
        """
        path = self.folder / f"{key_of(how, tokenizer, rows)}.safetensors"
        if path.exists():
            if (found := _read(path)) is not None:
                self.hits += 1
                return found
            self.rebuilt += 1
            print(f"warning: {path} is damaged; its rows are turned into tokens again")
        else:
            self.misses += 1
        made = encode()
        _write(path, made)
        return made


def key_of(how: str, tokenizer: PreTrainedTokenizerBase, rows: Sequence[Any]) -> str:
    """A sha256 in hexadecimal over all that token ids depend on: rows, tokenizer, special tokens, chat template."""
    digest = hashlib.sha256(f"{_FORMAT} {how}\n".encode())
    backend = getattr(tokenizer, "backend_tokenizer", None)
    described = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    special = json.dumps(tokenizer.special_tokens_map, sort_keys=True, default=str)
    for part in (type(tokenizer).__name__, described, special, json.dumps(tokenizer.chat_template)):
        digest.update(hashlib.sha256(part.encode()).digest())
    for row in rows:
        digest.update(json.dumps(row, ensure_ascii=True, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


def _checksum(arrays: dict[str, numpy.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(arrays[name].tobytes())
    return digest.hexdigest()


def _write(path: Path, chats: Sequence[EncodedChat]) -> None:
    import numpy
    from safetensors.numpy import save_file

    arrays = {
        "ids": numpy.array([token for chat in chats for token in chat.ids], dtype=numpy.int32),
        "assistant": numpy.array([flag for chat in chats for flag in chat.assistant], dtype=numpy.bool_),
        "lengths": numpy.array([len(chat.ids) for chat in chats], dtype=numpy.int64),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with atomic.os_errors(path):
            save_file(arrays, beside, {"sha256": _checksum(arrays)})
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _read(path: Path) -> list[EncodedChat] | None:
    """The file's rows, or ``None`` when it isn't what was written."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (the file is no mapping)
            expected = (file.metadata() or {}).get("sha256")
    except (SafetensorError, OSError, ValueError):
        return None
    if arrays.keys() != {"ids", "assistant", "lengths"} or _checksum(arrays) != expected:
        return None
    ids, assistant = arrays["ids"].tolist(), arrays["assistant"].tolist()
    chats, at = [], 0
    for length in arrays["lengths"].tolist():
        chats.append(EncodedChat(ids[at : at + length], assistant[at : at + length]))
        at += length
    return chats
