"""Where nothing more can be written, what was there stays, nothing half-written joins it, and a sentence says why."""

from __future__ import annotations

import errno
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from modelkit import checkpoint
from modelkit.checkpoint import StageInfo
from modelkit.fingerprint import sha256_of_file
from tests.trainers.conftest import World
from tests.trainers.test_loop import make, run, weights
from trainers import checkpointing, distributed, lora
from trainers.cli import app
from trainers.data import dataset
from trainers.data.cache import TokenCache
from trainers.data.dataset import Counts
from trainers.logprobs import Reference, of_reference
from trainers.recipe import DpoStage, Lora, SftStage
from trainers.strategies.plain import Single


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Writing more into one file fails, as it does on a full disk; Python ignores the signal that comes with it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("failing", ["model.safetensors", "model.optimiser.safetensors", "state.json"])
def test_a_full_disk_leaves_the_last_good_state(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    from safetensors import SafetensorError
    from safetensors import torch as safetensors_torch

    save, write = safetensors_torch.save_file, Path.write_text

    def full_save(tensors: Any, path: Path) -> None:
        if "step-000004" in str(path) and Path(path).name == failing:
            raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
        save(tensors, path)

    def full_write(path: Path, *rest: Any, **more: Any) -> int:
        if "step-000004" in str(path) and path.name == failing:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return write(path, *rest, **more)

    monkeypatch.setattr(safetensors_torch, "save_file", full_save)
    monkeypatch.setattr(Path, "write_text", full_write)
    with pytest.raises(OSError, match="No space left") as raised:
        run(make(world), tmp_path)
    assert raised.value.errno == errno.ENOSPC
    monkeypatch.undo()
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["step-000002"]
    again, whole = make(world), make(world)
    run(again, tmp_path)
    run(whole, tmp_path / "whole")
    assert torch.equal(weights(again), weights(whole))


@pytest.mark.parametrize("strategy", ["single", "zero2"])
def test_where_no_more_can_be_written_the_last_good_state_stays(world: World, tmp_path: Path, strategy: str) -> None:
    with distributed.joined(strategy) as joint:
        stage = make(world, strategy=joint, steps=3, save_every=2)
        run(stage, tmp_path)
        before = {path: sha256_of_file(path) for path in (tmp_path / "state").rglob("*") if path.is_file()}
        counters = {"tokens": 0, "seconds": 0.0, "log_bytes": 0}
        with files_of_at_most(20_000):
            with pytest.raises(OSError, match="File too large"):
                checkpointing.save(stage, 3, counters, tmp_path / "state")
            with pytest.raises(OSError, match="File too large"):
                checkpointing.save_best(stage, 3, tmp_path / "state")
        assert before == {path: sha256_of_file(path) for path in (tmp_path / "state").rglob("*") if path.is_file()}
        checkpointing.save(stage, 3, counters, tmp_path / "state")
        assert checkpointing.resume(make(world, strategy=joint), tmp_path / "state") == (3, counters)


def whole(world: World, place: Path, out: Path) -> None:
    checkpoint.save(world.model(), world.tokenizer, out / "sft", StageInfo(stage="sft"))


def adapter(world: World, place: Path, out: Path) -> None:
    settings = SftStage(data=[], steps=1, lr=1.0, lora=Lora(rank=4))
    trainee = lora.load(place / "base", "language", settings, world.tokenizer, seed=0)
    trainee.save(world.tokenizer, out / "sft", StageInfo(stage="sft"), Single())


def tokens(world: World, place: Path, out: Path) -> None:
    rows = [{"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]}] * 50
    dataset.chat_examples(rows, world.tokenizer, 99, Counts(), TokenCache(out))


def reference(world: World, place: Path, out: Path) -> None:
    of_reference(Reference(world.model, "sha256:x", out), [[1, 2, 3]] * 50, [1] * 50, DpoStage(data=[], steps=1, lr=1.0), Single())


@pytest.mark.parametrize(("save", "room"), [(whole, 5_000), (adapter, 5_000), (tokens, 200), (reference, 200)])
def test_whatever_is_saved_appears_whole_or_not_at_all(
    world: World, place: Path, tmp_path: Path, save: Callable[[World, Path, Path], None], room: int
) -> None:
    with files_of_at_most(room), pytest.raises(OSError, match="File too large") as raised:
        save(world, place, tmp_path)
    assert raised.value.errno == errno.EFBIG
    assert list(tmp_path.iterdir()) == []
    save(world, place, tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_command_says_so_in_a_sentence_and_goes_on_when_there_is_room(place: Path, tmp_path: Path) -> None:
    words = [
        "sft",
        "-m",
        str(place / "base"),
        "--data",
        str(place / "data" / "sft.jsonl"),
        "--out",
        str(tmp_path / "run"),
        "--threads",
        "1",
    ]
    words += ["--set", "steps=3", "--set", "save_every=2", "--set", "tokens=200", "--set", "lr=1.0e-3"]
    with files_of_at_most(80_000):
        stopped = CliRunner().invoke(app, words)
    assert stopped.exit_code == 2
    (line,) = [line for line in stopped.output.splitlines() if line.startswith("error: ")]
    assert "larger than this process may write" in line
    assert not (tmp_path / "run" / "sft").exists()
    assert CliRunner().invoke(app, words).exit_code == 0
