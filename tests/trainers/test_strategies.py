"""Two processes, under every strategy, train what one process trains; what one kind of run saves, another goes on from."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.tensor import DTensor

from tests.trainers import stages_of_a_rank as ranks
from tests.trainers.conftest import World
from tests.trainers.test_colossal import STAGES as BOOSTED
from tests.trainers.test_distributed import CPU_ONLY
from tests.trainers.test_resume import ALL
from trainers import checkpointing, distributed
from trainers.strategies import turns
from trainers.strategies.plain import Single
from trainers.strategies.ranks import shares

pytestmark = pytest.mark.xdist_group("strategies")
ROOT = Path(__file__).resolve().parents[2]
STRATEGIES = ["ddp", "zero1", "zero2", "zero3", "zero3_offload"]
CELLS = [
    *(f"zero2:{stage}{adapters}" for stage in ranks.STAGES for adapters in ("", "+lora") if stage != "ppo-shared" or adapters),
    *("ddp:pretrain", "ddp:sft", "ddp:rm", "ddp:kto", "ddp:ppo", "ddp:dpo+lora", "ddp:grpo+lora"),
    *("zero1:sft", "zero1:dpo", "zero1:grpo", "zero1:pretrain+lora", "zero1:rm+lora", "zero1:ppo+lora", "zero1:kto+lora"),
    *("zero3:sft", "zero3:pretrain", "zero3:ppo", "zero3:grpo", "zero3:rm+lora", "zero3:dpo+lora", "zero3:kto+lora"),
    *("zero3_offload:pretrain", "zero3_offload:rm", "zero3_offload:dpo", "zero3_offload:kto"),
    *("zero3_offload:sft+lora", "zero3_offload:ppo+lora", "zero3_offload:grpo+lora"),
    *("zero1:sft+muon", "zero2:sft+muon"),
]
"""STRATEGY:STAGE. Every stage on zero2 with and without adapters; every other pair of stage and strategy once, some with adapters.
Muon where it finds matrices whole and where it finds them in slices."""
TOLERANCE = 5e-6
"""Of weights of order 0.1 after a few updates at 3e-3, and of logged numbers: only the order of sums differs."""
TOLERANCE_OF_MUON = 2e-3
"""Its updates, of order 0.02, are made orthogonal in bf16, which has 8 bits."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, world: World) -> Path:
    """Where two ranks left their findings, and states for one process to go on from; one process's state was there for them."""
    folder = tmp_path_factory.mktemp("ranks")
    stage = ranks.sft(world)
    ranks.train(stage, end=2)
    checkpointing.save(stage, 2, ranks.COUNTERS, folder / "by one")
    torchrun(2, "-m", "tests.trainers.stages_of_a_rank", str(folder), *CELLS)
    return folder


def torchrun(processes: int, *command: str) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    environment = {**os.environ, **CPU_ONLY, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*launcher, *command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.fixture(scope="module")
def findings(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "findings.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def uninterrupted(world: World) -> dict[str, torch.Tensor]:
    stage = ranks.sft(world)
    ranks.train(stage)
    return ranks.weights(stage)


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS)
def test_two_processes_log_and_learn_what_one_does(findings: dict[str, Any], cell: str) -> None:
    """For PPO and GRPO the replies are one process's, and each rank's own are the same though they wait for nobody."""
    found, tolerance = findings[cell], TOLERANCE_OF_MUON if cell.endswith("+muon") else TOLERANCE
    assert found["logged"] < tolerance
    assert found["weights"] < tolerance
    assert all(found["replies"])
    assert bool(found["replies"]) == ("ppo" in cell or "grpo" in cell)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_processes_go_on_from_what_one_saved(findings: dict[str, Any], strategy: str) -> None:
    assert findings[strategy]["resumed at"] == 2
    assert findings[strategy]["distance"] < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("saved_by", STRATEGIES)
def test_one_process_goes_on_from_what_two_saved(folder: Path, saved_by: str, world: World, uninterrupted: dict[str, torch.Tensor]) -> None:
    stage = ranks.sft(world)
    step, _ = checkpointing.resume(stage, folder / "by two" / saved_by) or (0, {})
    assert step == 2
    ranks.train(stage, start=step)
    assert ranks.distance(ranks.weights(stage), uninterrupted) < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["zero1", "zero3"])
def test_a_strategy_of_one_process_goes_on_from_what_two_saved(
    folder: Path, strategy: str, world: World, uninterrupted: dict[str, torch.Tensor]
) -> None:
    with distributed.joined(strategy, device="cpu") as alone:
        stage = ranks.sft(world, alone)
        step, _ = checkpointing.resume(stage, folder / "by two" / strategy) or (0, {})
        assert step == 2
        ranks.train(stage, start=step)
        assert ranks.distance(ranks.weights(stage), uninterrupted) < TOLERANCE


@pytest.mark.slow
def test_a_rule_that_answers_otherwise_every_time_gives_all_ranks_the_same_rewards(findings: dict[str, Any]) -> None:
    found = findings["random reward"]
    assert found["sum"] == 2 * found["mine"]


@pytest.mark.slow
def test_ranks_share_a_references_passes_and_keep_what_they_found_once(findings: dict[str, Any]) -> None:
    found = findings["reference"]
    assert found["distance"] < 1e-3
    assert found["again"]
    assert found["rows"] < 9
    assert sorted(Path(file).name for file in found["files"]) == ["logprobs.safetensors", "sha256"]


@pytest.mark.slow
def test_sharded_states_hold_no_pickle(folder: Path) -> None:
    files = {file.suffix for file in (folder / "by two").rglob("*") if file.is_file()}
    assert files == {".safetensors", ".json"}


def test_a_model_is_in_slices_before_it_is_moved_as_a_whole(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    model, sliced = world.model(), []
    monkeypatch.setattr(model, "to", lambda _: sliced.append(all(isinstance(part, DTensor) for part in model.parameters())))
    with distributed.joined("zero3", device="cpu") as alone:
        alone.prepare(model)
    assert sliced == [True]


def test_a_step_is_shared_out_evenly_and_wholly() -> None:
    costs = [9, 1, 1, 1, 5, 4, 3, 3, 8]
    parts = shares(range(100, 109), costs, 3)
    assert sorted(index for part in parts for index in part) == list(range(100, 109))
    assert all(part == sorted(part) for part in parts), "the order of the step is kept"
    loads = [sum(costs[index - 100] for index in part) for part in parts]
    assert max(loads) - min(loads) <= 1


def test_more_ranks_than_rows_leave_some_without_any() -> None:
    assert shares([7], [3], 3) == [[7], [], []]


class TheThirdOfThree(Single):
    """A rank that got nothing of a step that takes the others two passes."""

    def share(self, indices: Any, costs: Any) -> list[int]:
        return []

    def rounds(self, microbatches: int) -> int:
        return 2


def test_a_rank_without_rows_makes_as_many_passes_at_weight_zero() -> None:
    assert turns(TheThirdOfThree(), [4, 2], [9, 9, 5, 9, 7], 100) == [([2], 0.0), ([2], 0.0)]


def test_one_process_has_no_passes_to_add() -> None:
    assert turns(Single(), [0, 1, 2], [5, 5, 5], 10) == [([0, 1], 1.0), ([2], 1.0)]


def test_the_docs_call_tested_what_is() -> None:
    text = (ROOT / "docs" / "strategies.md").read_text(encoding="utf-8")
    table = text.partition("## Stage × LoRA")[2].partition("\n##")[0]
    header, _, *rows = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("|")]
    columns = [name.strip(" `") for name in header[1:]]
    tried = {*CELLS, *(f"single:{stage}" for stage in ALL), *(f"colossalai_…:{stage}" for stage in BOOSTED)}
    kinds = (("full", ""), ("LoRA", "+lora"))
    for row in rows:
        stage, *cells = (cell.strip() for cell in row)
        expected = [", ".join(kind for kind, suffix in kinds if f"{name}:{stage}{suffix}" in tried) or "–" for name in columns]
        assert cells == expected, stage
    assert [row[0].strip() for row in rows] == list(ranks.STAGES)


COLOSSALCHAT = """
--plugin --grad_clip --weight_decay --warmup_steps --tp --pp --sp --zero_stage --zero_cpu_offload --sp_mode --enable_sequence_parallelism
--pretrain --tokenizer_dir --dataset --eval_dataset --checkpoint_path --config_file --save_dir --save_path --max_epochs --batch_size
--max_length --max_len --mixed_precision --lora_config --save_interval --lr --accumulation_steps --log_dir --use_wandb --grad_checkpoint
--use_flash_attn --disable_loss_mask --microbatch_size --loss_fn --loss_type --beta --gamma --length_normalization
--disable_reference_model --ref_tp --lam --desirable_weight --undesirable_weight --auto_weight --prompt_dataset --ptx_dataset
--conversation_template_config --rm_pretrain --rm_checkpoint_path --critic_checkpoint_path --no_neural_reward_model --reward_functions
--num_episodes --num_collect_steps --num_update_steps --train_batch_size --experience_batch_size --ptx_batch_size --critic_lr --kl_coef
--ptx_coef --max_seq_len --num_generations --inference_batch_size --logits_forward_batch_size --initial_temperature --final_temperature
--max_tokens_thinking --strategy --model --lora_rank --merge_lora_weights --max_datasets_size --need_optim_ckpt --subset --max_input_len
"""
"""The flags of ColossalChat's training scripts (2026), and of those of v0.3.3."""


def test_the_docs_map_every_flag_of_colossalchat() -> None:
    table = (ROOT / "docs" / "strategies.md").read_text(encoding="utf-8").partition("## From ColossalChat's commands")[2]
    assert set(COLOSSALCHAT.split()) <= set(re.findall(r"--[a-z_]+", table))
