"""Files and directories that become visible only when they are whole."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from modelkit.errors import UserError


@contextmanager
def text_file(path: Path) -> Iterator[TextIO]:
    """Give a fresh text file (UTF-8) to write that replaces *path* in one step: written beside it, fsynced, renamed.

    Readers see the old or the new file. If the block raises, *path* is as before.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("w", encoding="utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replace *path* by *text* as :func:`text_file` does."""
    with text_file(path) as file:
        file.write(text)


def write_json(path: Path, value: Any) -> None:
    """Like :func:`write_text`, for a JSON value (UTF-8, two spaces, keys in the order given)."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


@contextmanager
def directory(path: Path) -> Iterator[Path]:
    """Give a fresh directory beside *path* to fill; on success fsync all of it and rename it to *path*.

    An existing *path* is replaced. If the block raises, nothing is left behind and *path* is as before.
    A process killed half-way leaves only a dot-directory that :func:`sweep` removes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = beside_of(path, os.getpid())
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    try:
        with os_errors(path):
            yield beside
        for file in sorted(beside.rglob("*")):
            _fsync(file)
        _fsync(beside)
        if path.exists():
            old = path.with_name(f".{path.name}.{os.getpid()}.old")
            path.rename(old)
            beside.rename(path)
            shutil.rmtree(old)
        else:
            beside.rename(path)
        _fsync(path.parent)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def beside_of(path: Path, process: int) -> Path:
    """The directory that :func:`directory` gives the block in this *process*, for others that write into it as well."""
    return path.with_name(f".{path.name}.{process}.tmp")


@contextmanager
def os_errors(path: Path) -> Iterator[None]:
    """Let a full disk be an :class:`OSError` whoever met it: safetensors and tokenizers report one as an error of their own."""
    try:
        yield
    except (OSError, UserError):
        raise
    except Exception as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from None


def sweep(parent: Path) -> None:
    """Clear what killed writers left in *parent*: a half-made directory goes, one caught between two renames comes back."""
    if not parent.is_dir():
        return
    for left in parent.glob(".*.old"):
        whole = parent / left.name[1:].rsplit(".", 2)[0]
        if whole.exists():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.rename(whole)
    for left in parent.glob(".*.tmp"):
        shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
