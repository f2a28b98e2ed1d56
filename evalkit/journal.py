"""What has been measured so far, kept on disk batch by batch, so that a kill loses one batch at most.

``OUT.journal/`` stands beside the result to come. Every process appends to a file of its own, ``<digest>.<rank>-of-<world>.jsonl``,
where the digest is that of the evaluation's identity: a journal of another model, other data or other settings has another name
and is never read. The first line is the identity; then come samples, facts, and the process's own meter, which grows.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from evalkit.division import Share
from evalkit.identity import Identity, differences, digest
from evalkit.types import Sample
from modelkit.errors import UserError

if sys.platform != "win32":  # there, two processes at the same work aren't noticed
    import fcntl

Key = tuple[str, str]
"""Task and method."""


@dataclass
class Entries:
    """What journals hold: each sample's line by task, method and id, facts by task and method, meters by file and session."""

    samples: dict[Key, dict[str, dict[str, Any]]] = field(default_factory=dict)
    facts: dict[Key, dict[str, Any]] = field(default_factory=dict)
    meters: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    checks: list[dict[str, Any]] = field(default_factory=list)

    def count(self) -> int:
        """How many samples there are."""
        return sum(map(len, self.samples.values()))

    def add(self, name: str, entry: dict[str, Any]) -> None:
        """Take in one line of the file called *name*."""
        if "sample" in entry:
            lines = self.samples.setdefault((entry["task"], entry["sample"]["method"]), {})
            lines.setdefault(entry["sample"]["id"], entry["sample"])
        elif "facts" in entry:
            self.facts[entry["task"], entry["method"]] = entry["facts"]
        elif "meter" in entry:
            self.meters.setdefault(name, {})[entry["session"]] = entry["meter"]
        elif "check" in entry:
            self.checks.append(entry["check"])


def folder_of(out: Path) -> Path:
    """Where the journals of the result *out* lie."""
    return out.with_name(f"{out.name}.journal")


def read(out: Path, digest: str) -> Entries:
    """Everything that all processes have measured so far; their unfinished last lines are left out."""
    entries = Entries()
    for file in sorted(folder_of(out).glob(f"{digest[:16]}.*.jsonl")):
        with contextlib.suppress(FileNotFoundError):  # whoever merged the result removes the journal
            for entry, _ in _whole_lines(file.read_bytes()):
                entries.add(file.stem, entry)
    return entries


def count(out: Path, digest: str) -> int:
    """How many answers :func:`read` would find, without reading them; one that two processes have measured counts twice."""
    found = 0
    for file in folder_of(out).glob(f"{digest[:16]}.*.jsonl"):
        with contextlib.suppress(FileNotFoundError):
            found += file.read_bytes().count(b', "sample": {"id": ')
    return found


def others(out: Path, whole: Identity) -> list[str]:
    """One sentence for each journal of another evaluation that was to become *out*."""
    found = []
    for file in sorted(folder_of(out).glob("*.jsonl")):
        if file.name.startswith(digest(whole)[:16]):
            continue
        entries = [entry for entry, _ in _whole_lines(file.read_bytes())]
        samples = sum("sample" in entry for entry in entries)
        if samples:
            what = " and ".join(differences(entries[0].get("identity", {}), whole))
            found.append(f"{file} holds {samples:,} answers of another evaluation, which differs in {what}: kept, but not used.")
    return found


def remove(out: Path, digest: str) -> None:
    """Remove the journals of a finished evaluation; those of others stay."""
    folder = folder_of(out)
    for file in folder.glob(f"{digest[:16]}.*"):
        file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not empty, or gone already
        folder.rmdir()


@contextlib.contextmanager
def merging(out: Path, digest: str) -> Iterator[None]:
    """Only one process at a time gets into this block."""
    folder_of(out).mkdir(parents=True, exist_ok=True)
    with (folder_of(out) / f"{digest[:16]}.lock").open("ab") as file:
        _lock(file, wait=True)
        yield


class Journal:
    """The file that this process appends to.

    :raises UserError: when another process is at the same work.
    """

    def __init__(self, out: Path, whole: Identity, share: Share, say: Callable[[str], None] = lambda line: None) -> None:
        folder_of(out).mkdir(parents=True, exist_ok=True)
        self.file = folder_of(out) / f"{digest(whole)[:16]}.{share.rank}-of-{share.world}.jsonl"
        self._session = uuid.uuid4().hex[:8]
        self._stream = os.fdopen(os.open(self.file, os.O_RDWR | os.O_CREAT, 0o644), "r+b")
        if not _lock(self._stream, wait=False):
            self._stream.close()
            raise UserError(f"another process is writing {self.file}: wait for it, or stop it.")
        data = self._stream.read()
        end = max((end for _, end in _whole_lines(data)), default=0)
        if b"\n" in data[end:]:
            say(f"{self.file} is damaged after byte {end:,}: what stood there is measured again.")
        self._stream.truncate(end)
        self._stream.seek(end)
        self._empty = end == 0
        if self._empty:
            self._append([{"journal": 1, "identity": whole}])
            _sync_folder(self.file.parent)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        if self._empty:  # nothing came of it: whoever reads the folder finds nothing to go on from
            self.file.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # other files are there
                self.file.parent.rmdir()
        self._stream.close()

    def samples(self, task: str, samples: Sequence[Sample], prompts: bool, meter: dict[str, float]) -> None:
        """Keep a batch of samples, and how much the process has done so far."""
        self._empty = False
        lines: list[dict[str, Any]] = [{"task": task, "sample": sample.to_json(prompts)} for sample in samples]
        self._append([*lines, {"session": self._session, "meter": meter}])

    def facts(self, task: str, method: str, facts: dict[str, Any]) -> None:
        """Keep what is known of a task as a whole."""
        self._empty = False
        self._append([{"task": task, "method": method, "facts": facts}])

    def check(self, task: str, method: str, n: int, max_delta: float) -> None:
        """Keep the outcome of re-scoring some questions alone."""
        self._append([{"check": {"task": task, "method": method, "n": n, "max_delta": max_delta}}])

    def _append(self, entries: Sequence[dict[str, Any]]) -> None:
        self._stream.write("".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries).encode())
        self._stream.flush()
        os.fsync(self._stream.fileno())


def _whole_lines(data: bytes) -> Iterator[tuple[dict[str, Any], int]]:
    """Each line and where it ends, up to the first that isn't whole."""
    end = 0
    for line in data.split(b"\n")[:-1]:
        try:
            entry = json.loads(line)
        except ValueError:
            return
        if not isinstance(entry, dict):
            return
        end += len(line) + 1
        yield entry, end


def _lock(file: BinaryIO, wait: bool) -> bool:
    """Lock *file* until it is closed; ``False`` when another process has it. File systems that know no locks are trusted."""
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
