"""``--nproc``: one command, several processes, one end and one sentence."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from modelkit import checkpoint
from modelkit.errors import UserError
from trainers import distributed

pytestmark = pytest.mark.xdist_group("distributed")
ROOT = Path(__file__).resolve().parents[2]
TINY = ["run", "recipes/pocket-tiny.yaml", "--threads", "1", "--set", "evaluate=[]", "--set", "base.steps=6"]

CPU_ONLY = {"CUDA_VISIBLE_DEVICES": ""}
"""Several processes would need as many CUDA devices."""

KILLER = """
import os, signal
from trainers import cli, loop
step = loop.checkpointing.resume
def resume(stage, folder):
    if os.environ.get("RANK") == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    return step(stage, folder)
loop.checkpointing.resume = resume
"""


def launched(*command: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """A launcher of several processes at work."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **(env or {})}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def sft_of(place: Path, out: Path) -> list[str]:
    """The words of ``sft -m …``, four steps of it."""
    words = ["sft", "-m", str(place / "base"), "--data", str(place / "data" / "sft.jsonl"), "--out", str(out), "--threads", "1"]
    return [*words, "--set", "steps=4", "--set", "tokens=200", "--set", "lr=1.0e-3"]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return checkpoint.load_model(run / "sft").state_dict()


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def trainer(*arguments: str, sitecustomize: Path | None = None) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([*([str(sitecustomize)] if sitecustomize else []), str(ROOT)])
    environment = {**os.environ, **CPU_ONLY, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "trainers", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize(
    ("name", "world", "devices", "local_world", "said"),
    [
        ("zero4", 1, 0, 1, "did you mean zero"),
        ("single", 2, 0, 2, "use --strategy ddp"),
        ("single", 2, 2, 2, "use --strategy zero2"),
        ("zero3", 4, 1, 4, "use --nproc 1"),
        ("colossalai_3d", 2, 0, 2, "use --strategy ddp"),
    ],
)
def test_what_cannot_run_here_is_refused_with_what_can(name: str, world: int, devices: int, local_world: int, said: str) -> None:
    with pytest.raises(UserError, match=said):
        distributed.choose(name, world, devices, local_world)


@pytest.mark.parametrize(("world", "devices", "chosen"), [(1, 0, "single"), (1, 8, "single"), (2, 0, "ddp"), (8, 8, "zero2")])
def test_auto_takes_what_suits(world: int, devices: int, chosen: str) -> None:
    assert distributed.choose("auto", world, devices, world) == chosen


def test_what_one_rank_said_is_told_and_not_that_the_others_missed_it(tmp_path: Path) -> None:
    failures = {}
    for rank, message in enumerate((distributed._GONE, "the reward polite failed on the reply 'Yes.' (KeyError: 'x').")):
        file = tmp_path / f"{rank}.json"
        file.write_text(json.dumps({"message": message, "timestamp": 5}), encoding="utf-8")
        failures[rank] = ProcessFailure(local_rank=rank, pid=rank, exitcode=2, error_file=str(file))
    assert str(distributed._why(failures)).startswith("the reward polite failed")


def test_ranks_wait_as_long_as_one_of_them_may_evaluate() -> None:
    with distributed.joined("ddp", device="cpu"):
        group: Any = torch.distributed.group.WORLD
        assert group._get_backend(torch.device("cpu")).options._timeout >= timedelta(hours=24)


@pytest.fixture(scope="module")
def alone(place: Path) -> dict[str, torch.Tensor]:
    """What one process learns."""
    assert trainer(*sft_of(place, place / "alone")).returncode == 0
    return weights(place / "alone")


@pytest.mark.slow
@pytest.mark.parametrize(("nodes", "strategy"), [(1, "zero2"), (2, "zero3")])
def test_torchrun_on_one_machine_or_several_trains_what_one_process_does(
    place: Path, alone: dict[str, torch.Tensor], nodes: int, strategy: str
) -> None:
    """Two machines are two launchers here, each with a process, that meet at an address."""
    out = place / f"on {nodes}"
    meet = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{free_port()}", "--rdzv-id", "test"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--nnodes", str(nodes), "--nproc-per-node", str(2 // nodes), *meet]
    launchers = [launched(*launch, "-m", "trainers", *sft_of(place, out), "--strategy", strategy, env=CPU_ONLY) for _ in range(nodes)]
    said = [launcher.communicate(timeout=500)[0] for launcher in launchers]
    assert [launcher.returncode for launcher in launchers] == [0] * nodes, said
    found = weights(out)
    assert found.keys() == alone.keys()
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, alone[name], atol=5e-6, rtol=0)


@pytest.mark.slow
def test_an_error_of_all_ranks_is_one_sentence(tmp_path: Path) -> None:
    done = trainer(*TINY, "--out", str(tmp_path / "run"), "--nproc", "2", "--strategy", "single")
    assert done.returncode == 2
    assert done.stderr.splitlines() == ["error: single is one process, and 2 were started: use --strategy ddp, or leave --nproc out."]


@pytest.mark.slow
def test_a_killed_rank_ends_the_command_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(KILLER, encoding="utf-8")
    done = trainer(*TINY, "--out", str(tmp_path / "run"), "--nproc", "2", sitecustomize=tmp_path)
    assert done.returncode == 1
    assert f"rank 1 was ended by {signal.SIGKILL.name}; the same command goes on" in done.stderr
    assert "Traceback" not in done.stderr
