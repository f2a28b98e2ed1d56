"""The checkpoints that can be talked to: what runs hold, and single ones, loaded when asked for, within a memory budget.

Each loaded model has a worker thread, the only one that touches it; a model nobody has used for a while is put away.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from modelkit import checkpoint
from modelkit.adapter import base_of, is_adapter
from modelkit.chat import has_template
from modelkit.errors import ModelError, UserError
from modelkit.run import Run, StageKind, find_runs, run_of

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from modelkit.generation.engine import Engine
    from modelkit.generation.worker import Worker
    from modelkit.reward import RewardModel, RewardReference
    from modelkit.scoring.scorer import Scorer

_RESCAN_SECONDS = 1.0
IDLE_SECONDS = 900.0
"""A model unused for so long is put away."""
DEFAULT_KINDS: tuple[StageKind, ...] = ("base", "sft", "reward", "rl")
"""What the columns show first, from left to right."""


@dataclass(frozen=True)
class Entry:
    """A checkpoint that is ready. ``id`` (``run/stage``, or the directory's name) is all that a visitor ever sends.

    ``run`` is ``None`` for a checkpoint that belongs to none. A copy (in 4 bits, say) never stands for its kind.
    """

    id: str
    path: Path
    kind: StageKind
    titles: dict[str, str]
    run: Run | None = None
    several_runs: bool = False
    is_copy: bool = False

    def title(self, language: str) -> str:
        """The stage's name in a language, with the run's name where there are several."""
        title = self.titles.get(language) or self.titles.get("en") or self.path.name
        return f"{self.run.info.name} · {title}" if self.several_runs and self.run else title


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
    :param memory_bytes: most that the weights in memory may take together.
    :param idle_seconds: a model unused for so long is put away; ``None`` to keep it.
    :param checkpoints: single checkpoints that are offered as well.
    :param dtype: of language models' weights; ``None`` for each one's usual (fp32, or what its quantisation says).
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
    ) -> None:
        self._roots, self._budget, self._idle_seconds = roots, memory_bytes, idle_seconds
        self._singles = _singles(checkpoints)
        self._dtype, self._device, self._inline = dtype, device, inline
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
                found += [entry for entry in self._singles if _is_there(entry.path)]
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
            needed = sum(_size(file) for folder in _folders(entry.path) for file in folder.glob("*.safetensors"))
            if needed > self._budget:
                raise ModelError(
                    f"{entry.id} needs {needed >> 20:,} MiB, more than the {self._budget >> 20:,} MiB that weights may take up here."
                )
            for stale in [old for old in self._cache if old[0] == entry.path]:
                self._put_away(stale)
            self._make_room(needed)
            loaded = self._read(entry, key)
            with self._holding:
                self._cache[key] = _Held(entry.id, loaded, _bytes(loaded))
            self._make_room(0, spare=key)
            return loaded

    def _find(self, key: _Key) -> Loaded | LoadedReward | None:
        with self._holding:
            if key not in self._cache:
                return None
            self._cache.move_to_end(key)
            return self._cache[key].model

    def _make_room(self, needed: int, spare: _Key | None = None) -> None:
        """Put away what was used longest ago, those at work last, until *needed* more bytes fit."""
        while sum(held.bytes for held in self._cache.values()) + needed > self._budget:
            others = [key for key in self._cache if key != spare]
            if not others:
                return
            self._put_away(next((key for key in others if not self._cache[key].model.worker.busy), others[0]))

    def _put_away(self, key: _Key) -> None:
        """Forget a model; what it is writing is finished, and with that its memory is free."""
        with self._holding:
            held = self._cache.pop(key)
        held.model.worker.close()

    def _rest(self, key: _Key) -> None:
        """Nobody has used a model for a while."""
        with self._loading:
            if key in self._cache and not self._cache[key].model.worker.busy:
                self._put_away(key)

    def _read(self, entry: Entry, key: _Key) -> Loaded | LoadedReward:
        from modelkit.device import choose_device, import_transformers

        import_transformers()
        from modelkit.generation.engine import Engine
        from modelkit.generation.inline import InlineWorker
        from modelkit.generation.worker import Worker
        from modelkit.linear import pack
        from modelkit.reward import RewardModel, RewardReference

        def worker(engine: Engine | None) -> Worker:
            kind = InlineWorker if self._inline else Worker
            return kind(engine, entry.id, self._idle_seconds, lambda: self._rest(key))

        device = self._device or choose_device()
        if entry.kind in ("reward", "critic"):
            return LoadedReward(RewardModel.load(entry.path, device), RewardReference.read(entry.path), worker(None))
        model, tokenizer = checkpoint.load_model(entry.path, dtype=self._dtype, device=device), checkpoint.load_tokenizer(entry.path)
        if not self._inline:  # such a process may send its weights elsewhere
            pack(model)
        engine = Engine(model, tokenizer, inline=self._inline)
        return Loaded(model, tokenizer, engine, worker(engine))


_Key = tuple[Path, int]
"""A checkpoint's directory and when it was written."""


class _Held(NamedTuple):
    """A model in memory."""

    id: str
    model: Loaded | LoadedReward
    bytes: int


def _singles(checkpoints: Sequence[Path]) -> list[Entry]:
    """Checkpoints named one by one: as a stage where they belong to a run, else by the directory's name.

    :raises UserError: when one isn't whole, or two would have the same name.
    """
    found = []
    for named in checkpoints:
        checkpoint.check(named)
        path = named.resolve()
        run = run_of(path)
        stage = next((stage for stage in run.ready() if stage.name == path.name), None) if run else None
        if run and stage:
            found.append(Entry(f"{run.path.name}/{stage.name}", path, stage.kind, stage.title, run))
        else:
            kind: StageKind = "reward" if checkpoint.is_reward_model(path) else "sft" if has_template(path) else "base"
            found.append(Entry(path.name, path, kind, {}))
    twice = {id for id, times in Counter(entry.id for entry in found).items() if times > 1}
    found = [replace(entry, id=f"{entry.path.parent.name}/{entry.path.name}") if entry.id in twice else entry for entry in found]
    if len({entry.id for entry in found}) < len(found):
        raise UserError(f"two checkpoints would both be called {min(twice)}: rename one of the directories.")
    return found


def _folders(path: Path) -> list[Path]:
    """Where a checkpoint's weights lie: an adapter's are its base's, too."""
    return [path, base_of(path)] if is_adapter(path) else [path]


def _is_there(path: Path) -> bool:
    return (path / "config.json").is_file() or is_adapter(path)


def written(path: Path) -> int:
    """When a checkpoint was written, in nanoseconds: a newer one under the same name is another model.

    :raises UserError: when it is gone.
    """
    try:
        return (path / ("adapter_config.json" if is_adapter(path) else "config.json")).stat().st_mtime_ns
    except FileNotFoundError:
        raise UserError(f"{path.name} is gone from the disk: choose another checkpoint.") from None


def _size(file: Path) -> int:
    """A file's size; 0 once it is gone, which loading then says better."""
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def _bytes(loaded: Loaded | LoadedReward) -> int:
    model = loaded.model if isinstance(loaded, Loaded) else loaded.model.model
    return sum(tensor.numel() * tensor.element_size() for tensors in (model.parameters(), model.buffers()) for tensor in tensors)
