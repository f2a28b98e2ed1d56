"""TRL's side of benchmarks.train_vs_trl, for an environment of its own: `PYTHON benchmarks/train_trl.py STAGE VARIANT WORK OUT`.

Imports nothing of this project. The variant `default` leaves every setting of TRL as it comes but what the slices ask for (batch size,
one epoch, no saving); the others are TRL tuned for a CPU.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import transformers
import trl
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

TUNED: dict[str, Any] = {"gradient_checkpointing": False, "bf16": False, "optim": "adamw_torch_fused"}
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "tuned": TUNED,
    "tuned, by length": {**TUNED, "train_sampling_strategy": "group_by_length"},
    "tuned, packed": {**TUNED, "packing": True},
    "tuned, rollouts of 8": TUNED,
}


def sft(slices: dict[str, Any], work: Path, options: dict[str, Any]) -> Any:
    rows = [
        {"input_ids": row["ids"], "labels": [i if kept else -100 for i, kept in zip(row["ids"], row["labelled"], strict=True)]}
        for row in slices["sft"]
    ]
    if options.get("packing"):
        options = {**options, "per_device_train_batch_size": 1}
    arguments = trl.SFTConfig(max_length=1024, learning_rate=2e-5, **options)
    model, tokenizer = load(work)
    return trl.SFTTrainer(model, args=arguments, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)


def rm(slices: dict[str, Any], work: Path, options: dict[str, Any]) -> Any:
    rows = [{"chosen_ids": pair["chosen"], "rejected_ids": pair["rejected"]} for pair in slices["rm"]]
    if "train_sampling_strategy" in options:
        rows = [{**row, "length": max(len(row["chosen_ids"]), len(row["rejected_ids"]))} for row in rows]
        options = {**options, "remove_unused_columns": False}
    arguments = trl.RewardConfig(max_length=1024, learning_rate=2e-5, **options)
    model, tokenizer = reward(work), load(work)[1]
    return trl.RewardTrainer(model, args=arguments, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)


def ppo(slices: dict[str, Any], work: Path, options: dict[str, Any], at_once: int) -> Any:
    """All prompts in one rollout, or *at_once*; updates in micro-batches of the batch size."""
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    prompts = slices["ppo"]
    arguments = PPOConfig(
        total_episodes=len(prompts),
        gradient_accumulation_steps=max(1, at_once // slices["batch"]),
        response_length=slices["reply"],
        stop_token="eos",
        num_ppo_epochs=4,
        num_mini_batches=1,
        temperature=0.7,
        missing_eos_penalty=1.0,
        num_sample_generations=0,
        **options,
    )
    (policy, tokenizer), (reference, _) = load(work), load(work)
    data = Dataset.from_list([{"input_ids": ids} for ids in prompts])
    tokenizer.padding_side = "left"
    return PPOTrainer(
        arguments,
        processing_class=tokenizer,
        model=policy,
        ref_model=reference,
        reward_model=reward(work),
        value_model=reward(work),
        train_dataset=data,
        eval_dataset=data.select(range(1)),
    )


def load(work: Path) -> tuple[Any, Any]:
    """The language model in fp32, as TRL's trainers would be given it, and its tokenizer."""
    model = AutoModelForCausalLM.from_pretrained(work / "model", dtype=torch.float32)
    return model, AutoTokenizer.from_pretrained(work / "model")


def reward(work: Path) -> Any:
    return AutoModelForSequenceClassification.from_pretrained(work / "rm", num_labels=1, dtype=torch.float32)


def watch_phases(phases: dict[str, float]) -> None:
    """Let TRL's PPO module say when a rollout's sampling and its scoring are over; updating is what is left."""
    import trl.experimental.ppo.ppo_trainer as module

    generation, whiten, generated = module.batch_generation, module.masked_whiten, [0.0]

    def timed_generation(*arguments: Any, **named: Any) -> Any:
        started = time.perf_counter()
        found = generation(*arguments, **named)
        generated[0] = time.perf_counter()
        phases["rollout"] = phases.get("rollout", 0.0) + generated[0] - started
        return found

    def timed_whiten(*arguments: Any, **named: Any) -> Any:
        phases["scoring"] = phases.get("scoring", 0.0) + time.perf_counter() - generated[0]
        return whiten(*arguments, **named)

    module.batch_generation, module.masked_whiten = timed_generation, timed_whiten


def main(stage: str, variant: str, work: Path, out: Path) -> None:
    """Run one stage and write what it took."""
    torch.manual_seed(0)
    slices = json.loads((work / "slices.json").read_text(encoding="utf-8"))
    phases: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        options = {
            "output_dir": folder,
            "per_device_train_batch_size": slices["batch"],
            "num_train_epochs": 1,
            "save_strategy": "no",
            "report_to": "none",
            "use_cpu": True,
            "disable_tqdm": True,
            **VARIANTS[variant],
        }
        if stage == "ppo":
            watch_phases(phases)
            trainer = ppo(slices, work, options, slices["batch"] if variant in ("default", "tuned, rollouts of 8") else len(slices["ppo"]))
        else:
            trainer = {"sft": sft, "rm": rm}[stage](slices, work, options)
        started, worked = time.perf_counter(), time.process_time()
        trainer.train()
        seconds, processor = time.perf_counter() - started, time.process_time() - worked
    if phases:
        phases["update"] = seconds - sum(phases.values())
    counts = {
        "sft": sum(len(row["ids"]) for row in slices["sft"]),
        "rm": sum(len(pair["chosen"]) + len(pair["rejected"]) for pair in slices["rm"]),
        "ppo": len(slices["ppo"]) * slices["reply"],
    }
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "trl": trl.__version__}
    found = {"tokens": counts[stage], "rows": len(slices[stage]), "phases": phases, "versions": versions}
    result = {"seconds": seconds, "processor": processor, **found}
    out.write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
