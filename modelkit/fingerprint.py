"""What makes two checkpoints the same: the bytes of their config, weights, tokenizer and template."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from modelkit.adapter import base_of, is_adapter

if TYPE_CHECKING:
    from modelkit.chat import Message

_PATTERNS = (
    "config.json",
    "generation_config.json",
    "quantize_config.json",
    "adapter_config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.model",
    "chat_template*",
)


def sha256_of_file(path: Path) -> str:
    """``sha256:…`` of a file's bytes; remembered in this process while its size and time stay the same."""
    status = path.stat()
    return _sha256(str(path.resolve()), status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=4096)
def _sha256(path: str, size: int, mtime_ns: int) -> str:
    with open(path, "rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _slow(file)


def _slow(file) -> str:  # Python 3.10 has no hashlib.file_digest
    digest = hashlib.sha256()
    for block in iter(lambda: file.read(1 << 20), b""):
        digest.update(block)
    return "sha256:" + digest.hexdigest()


def sha256_of_text(text: str) -> str:
    """``sha256:…`` of a text's UTF-8 bytes."""
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def sha256_of_messages(messages: Sequence[Message]) -> str:
    """``sha256:…`` of a conversation's roles and contents, as JSON without blanks: what votes and judgments call a reply by."""
    plain = [{"role": message["role"], "content": message["content"]} for message in messages]
    return sha256_of_text(json.dumps(plain, ensure_ascii=False, separators=(",", ":")))


def fingerprint(checkpoint: Path) -> str:
    """``sha256:…`` over the sorted (name, sha256) pairs of everything that decides what a checkpoint answers, an adapter's base included.

    ``stage.json`` and other notes beside the weights don't count: the same weights have the same fingerprint wherever and
    however they were made.
    """
    files = {file.name: file for pattern in _PATTERNS for file in checkpoint.glob(pattern) if file.is_file()}
    listing = "\n".join(f"{name} {sha256_of_file(files[name])}" for name in sorted(files))
    if is_adapter(checkpoint):
        listing += f"\nbase {fingerprint(base_of(checkpoint))}"
    return sha256_of_text(listing)
