"""What was once answered or judged, kept by content: the key is a sha256 over all that decides it, so nothing is asked twice.

A table is a file of JSON lines, appended to and flushed as things come, by any number of processes. Killed at any moment it loses
what was under way at most; a line that isn't whole is asked for again.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from modelkit.fingerprint import sha256_of_text

if sys.platform != "win32":
    import fcntl


def key_of(*content: Any) -> str:
    """``sha256:…`` over *content* as canonical JSON."""
    return sha256_of_text(json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":")))


class Table:
    """Rows by key. ``say`` is told when lines are damaged."""

    def __init__(self, folder: Path, name: str, say: Callable[[str], None] = lambda line: None) -> None:
        self.file = folder / f"{name}.jsonl"
        self._say = say

    def get(self, key: str) -> dict[str, Any] | None:
        """The row put under *key*, if any."""
        return self._rows.get(key)

    def put(self, rows: Mapping[str, dict[str, Any]]) -> None:
        """Keep *rows* by key; they are on the disk when this returns."""
        if not rows:
            return
        self._rows.update(rows)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        text = "".join(json.dumps({"key": key, **row}, ensure_ascii=False) + "\n" for key, row in rows.items())
        with self.file.open("ab+") as file:
            if sys.platform != "win32":
                fcntl.flock(file, fcntl.LOCK_EX)
            end = file.seek(0, os.SEEK_END)
            if end and not self._ends_line(end):
                text = "\n" + text  # a writer was killed within its line: what follows starts on a new one
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())

    def _ends_line(self, end: int) -> bool:
        with self.file.open("rb") as file:
            file.seek(end - 1)
            return file.read(1) == b"\n"

    @cached_property
    def _rows(self) -> dict[str, dict[str, Any]]:
        rows, damaged = {}, 0
        for line in self.file.read_bytes().split(b"\n") if self.file.is_file() else []:
            if line.strip():
                try:
                    row = json.loads(line)
                    rows[row.pop("key")] = row
                except (ValueError, KeyError, AttributeError):
                    damaged += 1
        if damaged:
            self._say(f"{self.file} has {damaged:,} damaged lines: what stood there is asked for again.")
        return rows
