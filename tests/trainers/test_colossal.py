"""ColossalAI's plugins train what one process trains. Needs an environment with ColossalAI:

pip install --no-deps -r requirements-colossalai.txt && pytest -m colossalai
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from modelkit import checkpoint
from modelkit.errors import UserError
from tests.trainers.test_distributed import CPU_ONLY, free_port, launched, sft_of
from trainers import distributed

STAGES = ["sft", "sft+lora", "pretrain", "rm", "ppo", "dpo", "kto+lora", "grpo"]
TOLERANCE = 5e-6
INSTALLED = importlib.util.find_spec("colossalai") is not None
needs_colossalai = pytest.mark.skipif(
    not INSTALLED, reason="ColossalAI is not installed: pip install --no-deps -r requirements-colossalai.txt"
)


ON_TWO_RANKS = ["colossalai_ddp", "colossalai_zero1", "colossalai_zero2", "colossalai_zero2_cpu"]


@functools.cache
def findings(strategy: str, device: str, folder: Path) -> dict[str, Any]:
    """What two ranks logged and learnt, beside one process."""
    place = folder / f"{strategy} {device}"
    place.mkdir()
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    hidden = CPU_ONLY if device == "cpu" else {}
    process = launched(*command, "-m", "tests.trainers.boosted_rank", strategy, device, str(place), env=hidden)
    said, _ = process.communicate(timeout=540)
    assert process.returncode == 0, said[-4000:]
    return json.loads((place / "findings.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("boosted")


def holds(found: dict[str, Any], stage: str) -> None:
    assert found["resumed"]["distance"] == 0
    assert found[stage]["logged"] < TOLERANCE
    assert found[stage]["weights"] < TOLERANCE
    assert all(found[stage]["replies"])


@pytest.mark.colossalai
@pytest.mark.slow
@needs_colossalai
@pytest.mark.parametrize("strategy", ON_TWO_RANKS)
@pytest.mark.parametrize("stage", STAGES)
def test_two_boosted_processes_learn_what_one_does_and_go_on_from_what_they_saved(strategy: str, stage: str, folder: Path) -> None:
    """On CPUs; what ZeRO asks of a GPU (streams, an assertion) is stood in for, what it computes is its own."""
    holds(findings(strategy, "cpu", folder), stage)


@pytest.mark.colossalai
@pytest.mark.slow
@needs_colossalai
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
@pytest.mark.parametrize("strategy", ON_TWO_RANKS)
@pytest.mark.parametrize("stage", STAGES)
def test_two_boosted_processes_on_gpus_learn_what_one_does(strategy: str, stage: str, folder: Path) -> None:
    holds(findings(strategy, "cuda", folder), stage)


@pytest.mark.colossalai
@pytest.mark.slow
@needs_colossalai
def test_its_own_launcher_starts_the_trainers(place: Path) -> None:
    """``--`` keeps its options and ours apart, since both have a ``-m``."""
    programs = Path(sys.executable).parent
    launcher = [str(programs / "colossalai"), "run", "--nproc_per_node", "2", "--master_port", str(free_port())]
    arguments = [*sft_of(place, place / "boosted"), "--strategy", "colossalai_ddp"]
    environment = {**CPU_ONLY, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    process = launched(*launcher, "-m", "trainers", "--", *arguments, env=environment)
    said, _ = process.communicate(timeout=500)
    assert process.returncode == 0, said
    assert checkpoint.read_stage(place / "boosted" / "sft") is not None, said


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
