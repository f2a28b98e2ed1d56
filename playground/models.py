"""The checkpoints that can be talked to: what runs hold, and single ones, loaded when asked for, within a memory budget.

Each loaded model has a worker thread, the only one that touches it; a model nobody has used for a while is put away.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from modelkit import checkpoint, weight_bytes
from modelkit.errors import ModelError, UserError
from modelkit.run import Run, StageKind, find_runs
from playground.entries import Entry, is_there, named, written

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from modelkit.generation.engine import Engine, Limits
    from modelkit.generation.worker import Worker
    from modelkit.reward import RewardModel, RewardReference
    from modelkit.scoring.scorer import Scorer

_RESCAN_SECONDS = 1.0
IDLE_SECONDS = 900.0
"""A model unused for so long is put away."""
DEFAULT_KINDS: tuple[StageKind, ...] = ("base", "sft", "reward", "rl")
"""What the columns show first, from left to right."""
_SCORE: tuple[StageKind, ...] = ("reward", "critic")
"""What has a scalar head and writes nothing."""


@dataclass
class Loaded:
    """A language model in memory, with the engine that writes and the thread that turns it."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    engine: Engine
    worker: Worker

    @cached_property
    def scorer(self) -> Scorer:
        """Tells given tokens' log-probabilities; on the worker's thread only."""
        from modelkit.scoring.scorer import Scorer

        return Scorer(self.model)


@dataclass
class LoadedReward:
    """A reward or value model in memory, with the rewards of SFT replies that give its own a meaning. Asked on its worker's thread."""

    model: RewardModel
    reference: RewardReference | None
    worker: Worker


class Models:
    """The registry of one server: catalogue and cache. Safe to use from many threads.

    :param roots: runs, or folders of runs, all of whose stages are offered.
    :param memory_bytes: most that models may take together: their weights, and what their engines hold of keys and values.
    :param idle_seconds: a model unused for so long is put away; ``None`` to keep it.
    :param checkpoints: single checkpoints that are offered as well, and stay however long they are unused.
    :param dtype: of language models' weights; ``None`` for each one's usual (fp32, or what its quantisation says).
    :param limits: what each model's engine may take up.
    :param inline: compute on the threads that ask rather than on a thread for each model.
    """

    def __init__(
        self,
        roots: Sequence[Path],
        memory_bytes: int,
        idle_seconds: float | None = IDLE_SECONDS,
        checkpoints: Sequence[Path] = (),
        dtype: torch.dtype | None = None,
        device: torch.device | None = None,
        inline: bool = False,
        limits: Limits | None = None,
    ) -> None:
        self._roots, self._budget, self._idle_seconds = roots, memory_bytes, idle_seconds
        self._singles = named(checkpoints)
        self._dtype, self._device, self._inline, self._limits = dtype, device, inline, limits
        self.renew_locks()
        self._entries: dict[str, Entry] = {}
        self._scanned = float("-inf")
        self._cache: OrderedDict[_Key, _Held] = OrderedDict()

    def renew_locks(self) -> None:
        """For a process that was just forked: whoever held a lock then isn't there to let go of it."""
        self._lock, self._loading, self._holding = threading.Lock(), threading.Lock(), threading.Lock()

    def runs(self) -> list[Run]:
        """The runs at or below the roots."""
        return find_runs(self._roots)

    def catalogue(self) -> list[Entry]:
        """The ready checkpoints of every run, in the runs' own order; the disk is asked at most once a second."""
        with self._lock:
            if time.monotonic() - self._scanned > _RESCAN_SECONDS:
                ready = [(run, stage) for run in self.runs() for stage in run.ready() if stage.kind != "critic"]
                several = len({run.path for run, _ in ready}) > 1
                found = [
                    Entry(
                        f"{run.path.name}/{stage.name}",
                        run.checkpoint(stage.name),
                        stage.kind,
                        stage.title,
                        run,
                        several,
                        stage.copy_of is not None,
                    )
                    for run, stage in ready
                ]
                found += [entry for entry in self._singles if is_there(entry.path)]
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
        """The last ready checkpoint of another kind in the same run, or, where it has none, in the run it was trained from.

        For a checkpoint that belongs to no run, among those of none.
        """
        for near in self._lineage(entry):
            own = near.run.path if near.run else None
            others = ((other.run.path if other.run else None, other) for other in reversed(self.catalogue()))
            found = next((other for run, other in others if run == own and other.kind == kind and not other.is_copy), None)
            if found:
                return found
        return None

    def _lineage(self, entry: Entry) -> Iterator[Entry]:
        """The entry, then the checkpoint of each further run that it was trained from, the nearest first."""
        yield entry
        known = {other.path.resolve(): other for other in self.catalogue()}
        path, run, seen = entry.path.resolve(), entry.run, set()
        while path not in seen and (info := checkpoint.read_stage(path)) and info.parent:
            seen.add(path)
            path = (path / info.parent).resolve()
            found = known.get(path)
            if found and found.run and (run is None or found.run.path != run.path):
                run = found.run
                yield found

    def defaults(self) -> list[str]:
        """The ids that the columns show first: one per kind, of the run that has most of them, the first of several such."""
        by_run: dict[Path, dict[StageKind, str]] = {}
        for entry in self.catalogue():
            if entry.run and not entry.is_copy:
                by_run.setdefault(entry.run.path, {})[entry.kind] = entry.id
        by_kind = max(by_run.values(), key=len, default={})
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

    def critic(self, entry: Entry) -> LoadedReward | None:
        """The loaded value model of the run that *entry* belongs to, or ``None`` while it has none.

        :raises UserError: when its files are not whole or it is larger than the memory budget.
        """
        run = entry.run
        stage = next((stage for stage in reversed(run.ready()) if stage.kind == "critic"), None) if run else None
        if run is None or stage is None:
            return None
        loaded = self._load(Entry(f"{run.path.name}/{stage.name}", run.checkpoint(stage.name), stage.kind, stage.title, run))
        return loaded if isinstance(loaded, LoadedReward) else None

    def load_all(self) -> None:
        """Load everything that is offered.

        :raises UserError: when something can't be loaded.
        """
        for entry in self.catalogue():
            self._load(entry)

    def loaded(self) -> dict[str, Loaded | LoadedReward]:
        """The checkpoints in memory by their ids, the one used longest ago first."""
        with self._holding:
            return {held.id: held.model for held in self._cache.values()}

    def close(self, wait_seconds: float = 0.0) -> None:
        """Put every model away. What is being written is finished first, if that takes at most *wait_seconds*."""
        deadline = time.monotonic() + wait_seconds
        with self._loading, self._holding:
            workers = [held.model.worker for held in self._cache.values()]
            self._cache.clear()
        for worker in workers:
            worker.close(max(0.0, deadline - time.monotonic()))
        for worker in workers:
            if worker.busy:
                worker.abort()

    def _load(self, entry: Entry) -> Loaded | LoadedReward:
        """The model of *entry*, at once where it is in memory, even while another one is being loaded."""
        key = (entry.path, written(entry.path))
        if (held := self._find(key)) is not None:
            return held
        with self._loading:
            if (held := self._find(key)) is not None:
                return held
            needed = self._needed(entry)
            for stale in [old for old in self._snapshot() if old[0] == entry.path]:
                self._put_away(stale)
            self._make_room(needed)
            with _enough_memory(f"{entry.id}, which needs {needed >> 20:,} MiB"):
                loaded = self._read(entry, key)
            with self._holding:
                self._cache[key] = _Held(entry.id, loaded, weight_bytes.held(_module(loaded)))
            self._make_room(0, spare=key)
            return loaded

    def _needed(self, entry: Entry) -> int:
        """Bytes of the entry's weights, loaded as :meth:`_read` does.

        :raises ModelError: when the files are not whole or that is more than the budget.
        """
        from modelkit.device import import_transformers

        import_transformers()
        if entry.kind in _SCORE:
            needed = weight_bytes.expected(entry.path)
        else:
            needed = weight_bytes.expected(entry.path, self._dtype, None if self._inline else self._place())
        if needed > self._budget:
            raise ModelError(
                f"{entry.id} needs {needed >> 20:,} MiB, more than the {self._budget >> 20:,} MiB that models may take up here: choose a "
                "smaller one or one in 4 bits, or allow more with --memory."
            )
        return needed

    def _place(self) -> torch.device:
        from modelkit.device import choose_device

        return self._device or choose_device()

    def _find(self, key: _Key) -> Loaded | LoadedReward | None:
        with self._holding:
            if key not in self._cache:
                return None
            self._cache.move_to_end(key)
            return self._cache[key].model

    def _snapshot(self) -> dict[_Key, _Held]:
        """The models in memory, the one used longest ago first; others may use them meanwhile."""
        with self._holding:
            return dict(self._cache)

    def _make_room(self, needed: int, spare: _Key | None = None) -> None:
        """Put away what was used longest ago, those at work last, until *needed* more bytes fit."""
        held = self._snapshot()
        while sum(one.bytes for one in held.values()) + needed > self._budget:
            others = [key for key in held if key != spare]
            if not others:
                return
            leaving = next((key for key in others if not held[key].model.worker.busy), others[0])
            self._put_away(leaving)
            del held[leaving]

    def _put_away(self, key: _Key) -> None:
        """Forget a model; what it is writing is finished, and with that its memory is free."""
        with self._holding:
            held = self._cache.pop(key)
        held.model.worker.close()

    def _rest(self, key: _Key) -> None:
        """Nobody has used a model for a while."""
        with self._loading:
            held = self._snapshot().get(key)
            if held is not None and not held.model.worker.busy:
                self._put_away(key)

    def _read(self, entry: Entry, key: _Key) -> Loaded | LoadedReward:
        from modelkit.generation.engine import Engine, Limits
        from modelkit.generation.inline import InlineWorker
        from modelkit.generation.worker import Worker
        from modelkit.linear import pack
        from modelkit.reward import RewardModel, RewardReference

        def worker(engine: Engine | None) -> Worker:
            kind, idle = InlineWorker if self._inline else Worker, None if entry in self._singles else self._idle_seconds
            return kind(engine, entry.id, idle, lambda: self._rest(key))

        device = self._place()
        if entry.kind in _SCORE:
            return LoadedReward(RewardModel.load(entry.path, device), RewardReference.read(entry.path), worker(None))
        model, tokenizer = checkpoint.load_model(entry.path, dtype=self._dtype, device=device), checkpoint.load_tokenizer(entry.path)
        if not self._inline:  # such a process may send its weights elsewhere
            pack(model)
        engine = Engine(model, tokenizer, self._limits or Limits(), inline=self._inline)
        return Loaded(model, tokenizer, engine, worker(engine))


_Key = tuple[Path, int]
"""A checkpoint's directory and when it was written."""


class _Held(NamedTuple):
    """A model in memory, with the bytes of its weights."""

    id: str
    model: Loaded | LoadedReward
    weights: int

    @property
    def bytes(self) -> int:
        """What it takes at present, keys and values included."""
        return self.weights + (self.model.engine.bytes if isinstance(self.model, Loaded) else 0)


def _module(loaded: Loaded | LoadedReward) -> PreTrainedModel:
    return loaded.model if isinstance(loaded, Loaded) else loaded.model.model


@contextmanager
def _enough_memory(what: str) -> Iterator[None]:
    """:raises ModelError: when the block, which loads *what*, runs out of memory."""
    from modelkit.generation.memory import out_of_memory

    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise ModelError(f"memory ran out while loading {what}: end other programs, or choose a smaller checkpoint.") from None
