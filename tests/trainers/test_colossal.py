"""ColossalAI's plugins train what one process trains. Needs an environment with ColossalAI:

pip install --no-deps -r requirements-colossalai.txt && pytest -m colossalai
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from modelkit.errors import UserError
from trainers import distributed

ROOT = Path(__file__).resolve().parents[2]
INSTALLED = importlib.util.find_spec("colossalai") is not None
needs_colossalai = pytest.mark.skipif(
    not INSTALLED, reason="ColossalAI is not installed: pip install --no-deps -r requirements-colossalai.txt"
)


def train_on_two_ranks(strategy: str, device: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "tests.trainers.boosted_rank", strategy, device, str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=540, check=False)
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.mark.colossalai
@pytest.mark.slow
@needs_colossalai
@pytest.mark.parametrize("strategy", ["colossalai_ddp", "colossalai_zero1", "colossalai_zero2", "colossalai_zero2_cpu"])
def test_two_boosted_processes_learn_what_one_does_and_go_on_from_what_they_saved(strategy: str, tmp_path: Path) -> None:
    """On CPUs; what ZeRO asks of a GPU (streams, an assertion) is stood in for, what it computes is its own."""
    train_on_two_ranks(strategy, "cpu", tmp_path)


@pytest.mark.colossalai
@pytest.mark.slow
@needs_colossalai
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
@pytest.mark.parametrize("strategy", ["colossalai_ddp", "colossalai_zero1", "colossalai_zero2", "colossalai_zero2_cpu"])
def test_two_boosted_processes_on_gpus_learn_what_one_does(strategy: str, tmp_path: Path) -> None:
    train_on_two_ranks(strategy, "cuda", tmp_path)


@pytest.mark.skipif(INSTALLED, reason="ColossalAI is installed")
def test_without_colossalai_a_sentence_says_how_to_install_it_and_what_to_use_instead() -> None:
    with pytest.raises(UserError, match=r"requirements-colossalai.txt, or use --strategy ddp\."):
        distributed.choose("colossalai_zero2", world=2, devices=0)


@pytest.mark.parametrize(("name", "instead"), [("colossalai_3d", "single"), ("colossalai_gemini", "zero3")])
def test_plugins_that_cannot_run_here_are_refused_with_one_that_can(name: str, instead: str) -> None:
    with pytest.raises(UserError, match=f"use --strategy {instead}"):
        distributed.choose(name, world=1, devices=0)


@needs_colossalai
def test_zero_without_a_gpu_is_refused() -> None:
    with pytest.raises(UserError, match="needs a CUDA device"):
        distributed.choose("colossalai_zero2", world=2, devices=0)
