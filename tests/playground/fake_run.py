"""A run with tiny random weights, made at once or bit by bit by a pretended trainer (``python fake_run.py run RECIPE --out RUN``)."""

from __future__ import annotations

import json
import math
import os
import random
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

from modelkit import atomic
from modelkit.chat import PLAIN_TEMPLATE
from modelkit.run import Run, RunInfo, Stage

STAGES = [
    Stage(name="base", kind="base", title={"en": "Base", "zh": "基座"}),
    Stage(name="sft", kind="sft", title={"en": "SFT", "zh": "SFT"}),
    Stage(name="rm", kind="reward", title={"en": "Reward model", "zh": "奖励模型"}),
    Stage(name="critic", kind="critic", title={"en": "Critic", "zh": "价值模型"}),
    Stage(name="rl", kind="rl", title={"en": "RL", "zh": "RL"}),
]
STEPS = {"data": 1, "tokenizer": 1, "base": 60, "sft": 40, "rm": 30, "rl": 20, "report": 1}
REPORT = "# Report card\n\n| metric | base | sft | rl |\n|---|---|---|---|\n| exact match | 0.04 | 0.86 | 0.88 |\n"
SENTENCES = ["The capital of France is Paris.", "热的反义词是冷。", "What is seven plus five? Twelve.", "User: Assistant: <b>"]


def make_tokenizer() -> Any:
    """A byte-level BPE tokenizer with a chat template, trained on four sentences."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(SENTENCES, trainers.BpeTrainer(vocab_size=320, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    tokenizer.chat_template = PLAIN_TEMPLATE
    return tokenizer


def write_checkpoint(run: Path, stage: Stage, context: int = 256) -> None:
    """Write one stage's checkpoint: random weights, told apart by a seed."""
    import torch
    from transformers import LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedModel

    from modelkit import checkpoint
    from modelkit.checkpoint import StageInfo
    from tests import tiny_llama

    tokenizer = make_tokenizer()
    scalar = stage.kind in ("reward", "critic")
    changes = {"max_position_embeddings": context, "num_attention_heads": 2, "tie_word_embeddings": False, "initializer_range": 0.02}
    special = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    torch.manual_seed([other.name for other in STAGES].index(stage.name))
    shape = tiny_llama.config(len(tokenizer), num_labels=1, **changes, **special)
    model: PreTrainedModel = LlamaForSequenceClassification(shape) if scalar else LlamaForCausalLM(shape)
    reference = {"rewards": [i / 100 - 0.5 for i in range(100)], "mean": 0.0, "sd": 0.3}
    extra = {"reward_reference.json": reference} if stage.kind == "reward" else None
    checkpoint.save(model, tokenizer, run / stage.name, StageInfo(stage=stage.name), extra)


def create(run: Path) -> None:
    """A run without checkpoints, with its held-out prompts."""
    info = RunInfo(name=run.name, recipe="sha256:0", languages=["en", "zh"], stages=STAGES)
    Run.create(run, info)
    prompts = [f"What is {i} plus 2?" for i in range(9)] + [f"{i} 加 2 等于多少？" for i in range(9)]
    rows = [json.dumps({"messages": [{"role": "user", "content": prompt}]}, ensure_ascii=False) for prompt in prompts]
    atomic.write_text(run / "data" / "benchmark" / "prompts.jsonl", "\n".join(rows) + "\n")


def events(stage: str) -> list[dict[str, Any]]:
    """The log of a stage, all of it."""
    steps, noise = STEPS[stage], random.Random(stage)
    rows: list[dict[str, Any]] = [{"event": "start", "stage": stage, "steps": steps, "time": 0.0}]
    for step in range(1, steps + 1):
        share, wobble = step / steps, noise.gauss(0, 0.05)
        row: dict[str, Any] = {"event": "step", "step": step, "steps": steps, "loss": 0.4 + 4 * math.exp(-3 * share) + wobble}
        if stage == "rm":
            row["accuracy"] = min(1.0, 0.5 + 0.45 * share + wobble)
        if stage == "rl":
            row |= {"reward": 1.5 * share + wobble, "kl": 5 * share + wobble, "length": 12 + 3 * wobble}
        rows.append(row)
        if stage in ("base", "sft", "rl") and step % (steps // 2) == 0:
            reply = "Paris <b>Paris" if step < steps else "The capital of France is Paris."
            sample = {"prompt": "What is the capital of France?", "reply": reply, **({"reward": 1.2} if stage == "rl" else {})}
            rows.append({"event": "sample", "step": step, "samples": [sample, {"prompt": "法国的首都是哪里？", "reply": "巴黎。"}]})
    return [*rows, {"event": "end", "step": steps, "seconds": 1.0, "metrics": {}}]


def train(run: Path, seconds: float) -> None:
    """Pretend to train *run* for so many seconds, going on after the checkpoints that are there; SIGTERM stops it."""
    started, stopped = time.time(), False

    def stop(*_: int | FrameType | None) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGTERM, stop)
    if not (run / "run.json").exists():
        create(run)

    def progress(state: str, stage: str, step: int, fraction: float) -> None:
        passed = time.time() - started
        value = {"format": 1, "state": state, "stage": stage, "stages": list(STEPS), "step": step, "steps": STEPS[stage], "message": ""}
        times = {"seconds": passed, "eta_seconds": max(0.0, seconds - passed), "pid": os.getpid(), "time": time.time()}
        atomic.write_json(run / "progress.json", {**value, "fraction": fraction, **times})

    total, done = sum(STEPS.values()), 0
    for stage, steps in STEPS.items():
        if stage in ("data", "report"):
            done += steps
            progress("running", stage, steps, done / total)
            continue
        log = run / "logs" / f"{stage}.jsonl"
        log.parent.mkdir(exist_ok=True)
        with log.open("w", encoding="utf-8") as file:
            for row in events(stage):
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                file.flush()
                if row["event"] == "step":
                    done += 1
                    progress("running", stage, row["step"], done / total)
                    time.sleep(seconds / total)
                if stopped:
                    progress("stopped", stage, row.get("step", 0), done / total)
                    return
        for checkpoint in STAGES:
            if checkpoint.name == stage or (stage, checkpoint.name) == ("rm", "critic"):
                write_checkpoint(run, checkpoint)
    atomic.write_text(run / "report.md", REPORT)
    progress("done", "report", 1, 1.0)


def make_run(run: Path) -> None:
    """A finished run, at once."""
    create(run)
    for stage in STAGES:
        write_checkpoint(run, stage)
    for name in ("tokenizer", "base", "sft", "rm", "rl"):
        atomic.write_text(run / "logs" / f"{name}.jsonl", "".join(json.dumps(row) + "\n" for row in events(name)))
    atomic.write_text(run / "report.md", REPORT)
    done = {"format": 1, "state": "done", "stage": "report", "stages": list(STEPS), "step": 1, "steps": 1, "fraction": 1.0, "seconds": 95.0}
    atomic.write_json(run / "progress.json", {**done, "pid": 0, "time": 0.0, "message": ""})


if __name__ == "__main__":
    recipe, out = sys.argv[2], sys.argv[sys.argv.index("--out") + 1]
    if Path(recipe).exists() and "broken" in Path(recipe).read_text():
        sys.exit("error: the recipe is broken: mend it.")
    train(Path(out), float(os.environ.get("FAKE_SECONDS", "4")))
