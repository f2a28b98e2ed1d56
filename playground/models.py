"""The checkpoints that can be talked to: what the opened runs hold, loaded when asked for, within a memory budget."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from modelkit.errors import UserError
from modelkit.run import Run, StageKind, find_runs

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from modelkit.reward import RewardModel, RewardReference

_RESCAN_SECONDS = 1.0
DEFAULT_KINDS: tuple[StageKind, ...] = ("base", "sft", "reward", "rl")
"""What the columns show first, from left to right."""


@dataclass(frozen=True)
class Entry:
    """A checkpoint that is ready. ``id`` (``run/stage``) is all that a visitor ever sends."""

    id: str
    run: Run
    stage: str
    kind: StageKind
    titles: dict[str, str]
    several_runs: bool

    @property
    def path(self) -> Path:
        """The checkpoint's directory."""
        return self.run.checkpoint(self.stage)

    def title(self, language: str) -> str:
        """The stage's name in a language, with the run's name where there are several."""
        title = self.titles.get(language) or self.titles.get("en") or self.stage
        return f"{self.run.info.name} · {title}" if self.several_runs else title


@dataclass
class Loaded:
    """A language model in memory. ``decoding`` is held while it writes: one request at a time."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    decoding: threading.Lock = field(default_factory=threading.Lock)


@dataclass
class LoadedReward:
    """A reward model in memory, with the rewards of SFT replies that give its own a meaning."""

    model: RewardModel
    reference: RewardReference | None
    scoring: threading.Lock = field(default_factory=threading.Lock)


class Models:
    """The registry of one server: catalogue and cache. Safe to use from many threads."""

    def __init__(self, roots: list[Path], memory_bytes: int) -> None:
        self._roots, self._budget = roots, memory_bytes
        self._lock = threading.Lock()
        self._loading = threading.Lock()
        self._entries: dict[str, Entry] = {}
        self._scanned = float("-inf")
        self._cache: OrderedDict[tuple[Path, int], tuple[Loaded | LoadedReward, int]] = OrderedDict()

    def runs(self) -> list[Run]:
        """The runs at or below the roots."""
        return find_runs(self._roots)

    def catalogue(self) -> list[Entry]:
        """The ready checkpoints of every run, in the runs' own order; the disk is asked at most once a second."""
        with self._lock:
            if time.monotonic() - self._scanned > _RESCAN_SECONDS:
                ready = [(run, stage) for run in self.runs() for stage in run.ready() if stage.kind != "critic"]
                several = len({run.path for run, _ in ready}) > 1
                found = [Entry(f"{run.path.name}/{stage.name}", run, stage.name, stage.kind, stage.title, several) for run, stage in ready]
                self._entries = {entry.id: entry for entry in found}
                self._scanned = time.monotonic()
            return list(self._entries.values())

    def entry(self, checkpoint: str) -> Entry:
        """:raises UserError: when no such checkpoint is ready."""
        for entry in self.catalogue():
            if entry.id == checkpoint:
                return entry
        raise UserError("this checkpoint is not in the list: choose one of those offered.")

    def sibling(self, entry: Entry, kind: StageKind) -> Entry | None:
        """The last ready checkpoint of another kind in the same run."""
        return next((other for other in reversed(self.catalogue()) if other.run.path == entry.run.path and other.kind == kind), None)

    def defaults(self) -> list[str]:
        """The ids that the columns show first: one per kind, of the first run that has something ready."""
        entries = self.catalogue()
        first = [entry for entry in entries if entry.run.path == entries[0].run.path]
        by_kind = {entry.kind: entry.id for entry in first}
        return [by_kind[kind] for kind in DEFAULT_KINDS if kind in by_kind and (kind != "reward" or "sft" in by_kind)]

    def language(self, entry: Entry) -> Loaded:
        """The loaded language model of *entry*.

        :raises UserError: when its files are not whole or it is larger than the memory budget.
        """
        loaded = self._load(entry)
        if not isinstance(loaded, Loaded):
            raise UserError(f"{entry.id} scores replies and can't write any: choose another checkpoint.")
        return loaded

    def reward(self, entry: Entry) -> LoadedReward | None:
        """The loaded reward model of the run that *entry* belongs to, or ``None`` while it has none.

        :raises UserError: when its files are not whole or it is larger than the memory budget.
        """
        judge = entry if entry.kind == "reward" else self.sibling(entry, "reward")
        loaded = self._load(judge) if judge else None
        return loaded if isinstance(loaded, LoadedReward) else None

    def _load(self, entry: Entry) -> Loaded | LoadedReward:
        key = (entry.path, _written(entry.path))
        with self._loading:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key][0]
            needed = sum(file.stat().st_size for file in entry.path.glob("*.safetensors"))
            if needed > self._budget:
                raise UserError(
                    f"{entry.id} needs {needed >> 20:,} MiB, more than the {self._budget >> 20:,} MiB this page may use for weights."
                )
            for stale in [old for old in self._cache if old[0] == entry.path]:
                del self._cache[stale]
            loaded = _read(entry)
            self._cache[key] = (loaded, _bytes(loaded))
            while len(self._cache) > 1 and sum(size for _, size in self._cache.values()) > self._budget:
                self._cache.popitem(last=False)
            return loaded


def _written(checkpoint: Path) -> int:
    """When a checkpoint was written: a newer one under the same name is another model."""
    try:
        return (checkpoint / "config.json").stat().st_mtime_ns
    except FileNotFoundError:
        raise UserError(f"{checkpoint.name} is gone from its run: choose another checkpoint.") from None


def _read(entry: Entry) -> Loaded | LoadedReward:
    from modelkit import checkpoint
    from modelkit.device import choose_device
    from modelkit.reward import RewardModel, RewardReference

    device = choose_device()
    if entry.kind == "reward":
        return LoadedReward(RewardModel.load(entry.path, device), RewardReference.read(entry.path))
    return Loaded(checkpoint.load_model(entry.path, device=device), checkpoint.load_tokenizer(entry.path))


def _bytes(loaded: Loaded | LoadedReward) -> int:
    model = loaded.model if isinstance(loaded, Loaded) else loaded.model.model
    return sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
