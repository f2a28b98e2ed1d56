"""What an evaluation's numbers depend on, as fingerprints of contents: what must agree for measured questions to be used again."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from evalkit.types import Task
from modelkit.fingerprint import fingerprint, sha256_of_file, sha256_of_text

Identity = dict[str, Any]

_LIBRARIES = ("torch", "transformers", "tokenizers", "peft")
_NAMES = {
    "model": "model",
    "questions": "data or protocol",
    "code": "version of evalkit",
    "libraries": "versions of its libraries",
    "batch_tokens": "batch size",
    "log_prompts": "--log-prompts",
    "chat": "--chat",
    "exact": "--exact",
}


def identity(model: str, tasks: Sequence[Task], settings: dict[str, Any]) -> Identity:
    """All that decides a sample.

    :param model: the fingerprint of what answers.
    :param settings: those that a number depends on, as JSON values.
    """
    return {
        "model": model,
        "questions": {task.name: [task.data, _content(task)] for task in tasks},
        "code": _code(),
        "libraries": {name: _version(name) for name in _LIBRARIES},
        **settings,
    }


def digest(whole: Identity) -> str:
    """64 hex digits that are the same for equal identities alone."""
    return sha256_of_text(json.dumps(whole, sort_keys=True, ensure_ascii=False)).removeprefix("sha256:")


def differences(one: Identity, other: Identity) -> list[str]:
    """In what the two differ, in words."""
    return [_NAMES.get(name, name) for name in {**one, **other} if one.get(name) != other.get(name)]


def _content(task: Task) -> str:
    """``sha256:…`` over the task's questions, shots and protocol as they were read; its functions count by :func:`_code`."""
    return sha256_of_text(json.dumps(task, default=_plain, sort_keys=True, ensure_ascii=False))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, BaseModel):
        return value.model_dump()
    if isinstance(value, Path):
        return fingerprint(value)
    return getattr(value, "__qualname__", repr(type(value)))


@functools.cache
def _code() -> str:
    """``sha256:…`` over the sources that make prompts, numbers and predictions."""
    root = Path(__file__).resolve().parent.parent
    files = sorted(file for package in ("evalkit", "modelkit") for file in (root / package).rglob("*.py"))
    return sha256_of_text("\n".join(f"{file.relative_to(root).as_posix()} {sha256_of_file(file)}" for file in files))


def _version(library: str) -> str | None:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None
