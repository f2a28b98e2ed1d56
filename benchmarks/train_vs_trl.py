"""Our trainers beside TRL: same model, same token ids, same machine, one process after the other.

    python -m benchmarks.train_vs_trl --work DIR [--only sft|rm|ppo|generation] [--sides ours,default,…] [--repeat 3]

A LLaMA shape of 51 million parameters with random weights, fp32 on a CPU. SFT reads about 40,000 tokens of Stanford Alpaca in batches
of eight rows, the reward model 64 pairs of hh-rlhf in batches of eight, PPO takes 64 samples to those pairs' prompts through one rollout
and four passes. Timed is each side's own training loop, from loaded model to trained model. TRL 1.16.0 (PPO: 1.12.0, the last
that has it) lives in environments that this script makes in DIR, over this environment's torch and transformers; it runs as it comes
and tuned, and is compared by its better run. Every run is added to DIR/runs.jsonl, and the tables show all that are there, so that
stages and sides can be measured one at a time. --synthetic needs neither data nor peer.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PEERS = {"sft": "trl==1.16.0", "rm": "trl==1.16.0", "ppo": "trl==1.12.0"}
SIDES = {
    "sft": ["ours", "default", "tuned", "tuned, by length", "tuned, packed"],
    "rm": ["ours", "default", "tuned", "tuned, by length"],
    "ppo": ["ours", "default", "tuned", "tuned, rollouts of 8"],
    "generation": ["ours"],
}
BARS = {"sft": 1.3, "rm": 1.3, "ppo": 3.0}
SHAPES: dict[str, dict[str, int]] = {
    "50M": {"vocab_size": 32000, "hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 12, "num_attention_heads": 8},
    "smallest": {"vocab_size": 300, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2},
}
CONTEXT, BATCH = 1024, 8


def build(work: Path, shape: str, tokenizer: Any) -> None:
    """Save a language model and a reward model of a shape, with random weights, the same every time."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from trainers.reward import from_language_model

    torch.manual_seed(0)
    heads = SHAPES[shape]["num_attention_heads"] // 2
    special = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": tokenizer.pad_token_id}
    model = LlamaForCausalLM(
        LlamaConfig(**SHAPES[shape], num_key_value_heads=heads, max_position_embeddings=CONTEXT, tie_word_embeddings=True, **special)
    )
    for name, made in {"model": model, "rm": from_language_model(model, tokenizer)}.items():
        made.save_pretrained(work / name)
        tokenizer.save_pretrained(work / name)


def real_slices(data: Path, tokenizer: Any, tokens: int, rows: int, asked: str) -> dict[str, Any]:
    """Token ids of the first rows of the real files: SFT up to *tokens*, *rows* pairs, *rows* prompts of those pairs or of Alpaca."""
    from trainers.data import dataset
    from trainers.data.dataset import Counts
    from trainers.data.formats import load

    alpaca = load(data / "stanford-alpaca/data/alpaca_5000.json", "sft").rows
    harmless = load(data / "hh-rlhf/harmless-base/test.jsonl.gz", "preference").rows
    chats = dataset.chat_examples(alpaca[:1000], tokenizer, CONTEXT, Counts())
    found: list[dict[str, Any]] = []
    for example in chats:
        if sum(len(row["ids"]) for row in found) >= tokens:
            break
        found.append({"ids": example.ids, "labelled": example.labelled})
    pairs = dataset.pairs(harmless[: 2 * rows], tokenizer, CONTEXT, Counts())[:rows]
    openings = harmless[: 2 * rows] if asked == "hh-rlhf" else [{"messages": row["messages"][:-1]} for row in alpaca[:rows]]
    prompts = dataset.prompts(openings, tokenizer, CONTEXT // 2, Counts())[:rows]
    return {
        "sft": found,
        "rm": [{"chosen": pair.chosen, "rejected": pair.rejected} for pair in pairs],
        "ppo": [prompt.ids for prompt in prompts],
    }


def random_slices(vocabulary: int, tokens: int, rows: int) -> dict[str, Any]:
    """The same kinds of rows, of random tokens."""
    draw = random.Random(0)

    def text(low: int, high: int) -> list[int]:
        return [draw.randrange(4, vocabulary) for _ in range(draw.randint(low, high))]

    chats: list[dict[str, Any]] = []
    while sum(len(row["ids"]) for row in chats) < tokens or len(chats) < BATCH:
        prompt, reply = text(8, 60), text(8, 120)
        chats.append({"ids": prompt + reply, "labelled": [False] * len(prompt) + [True] * len(reply)})
    shared = [text(30, 200) for _ in range(rows)]
    pairs = [{"chosen": start + text(10, 80), "rejected": start + text(10, 80)} for start in shared]
    return {"sft": chats, "rm": pairs, "ppo": [text(8, 80) for _ in range(rows)]}


def tokenizer_of(folder: Path | None) -> Any:
    """The tokenizer in *folder* with a plain chat template and a padding token of its own kind; without one, single characters."""
    from transformers import LlamaTokenizer, PreTrainedTokenizerFast

    from modelkit.chat import PLAIN_TEMPLATE

    if folder is None:
        from tokenizers import Tokenizer, models

        letters = {f"<{i}>": i for i in range(SHAPES["smallest"]["vocab_size"])}
        marks = {"bos_token": "<1>", "eos_token": "<2>", "pad_token": "<3>"}
        return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(letters, unk_token="<0>")), **marks)
    tokenizer = LlamaTokenizer.from_pretrained(folder)
    tokenizer.pad_token, tokenizer.chat_template = tokenizer.unk_token, PLAIN_TEMPLATE
    return tokenizer


def environment(folder: Path, requirement: str) -> Path:
    """The Python of an environment with the peer, which finds this one's torch and transformers, so that both compute with the same."""
    python = folder / "bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        (site,) = folder.glob("lib/python*/site-packages")
        (site / "shared.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")) + "\n")
        subprocess.run([python, "-m", "pip", "install", "-q", requirement], check=True)
    return python


def run(stage: str, side: str, work: Path, threads: int, python: Path | None) -> dict[str, Any]:
    """One side of one stage in a process: what it reports, with its peak memory in bytes."""
    out = work / "run.json"
    out.unlink(missing_ok=True)
    command: list[str | Path] = [sys.executable, "-m", "benchmarks.train_ours", stage, work, out]
    if side != "ours":
        assert python is not None
        command = [python, ROOT / "benchmarks/train_trl.py", stage, side, work, out]
    settings = {"OMP_NUM_THREADS": str(threads), "PLAYGROUND_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    settings |= {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}  # for both: what waiting threads burn is no work
    settings |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(work / "datasets"), "TRL_EXPERIMENTAL_SILENCE": "1"}
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen(list(map(str, command)), env={**os.environ, **settings}, stdout=said, stderr=subprocess.STDOUT, cwd=ROOT)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            said.seek(0)
            sys.exit(f"{stage} ({side}) failed:\n{said.read().decode(errors='replace')[-3000:]}")
    found = json.loads(out.read_text(encoding="utf-8"))
    return {**found, "stage": stage, "side": side, "threads": threads, "memory": usage.ru_maxrss * 1024, "time": time.time()}


def report(stage: str, runs: Sequence[dict[str, Any]]) -> None:
    """Print a stage's table: medians over the runs of each side."""
    if stage == "generation":
        rates = [one["rates"] for one in runs]
        plain = statistics.median(rate["one by one"] for rate in rates)
        print(f"\ngeneration: new tokens per second, medians of {len(rates)}; bar: rollouts ≥ 3 × one by one")
        for name in rates[0]:
            rate = statistics.median(one[name] for one in rates)
            print(f"  {name:32}{rate:10.1f}{rate / plain:8.2f} ×")
        return
    unit = {"sft": "tokens", "rm": "pairs", "ppo": "samples"}[stage]
    sides = {side: [one for one in runs if one["side"] == side] for side in dict.fromkeys(one["side"] for one in runs)}
    speeds = {
        side: statistics.median(one["tokens" if stage == "sft" else "rows"] / one["seconds"] for one in found)
        for side, found in sides.items()
    }
    print(f"\n{stage}: bar {BARS[stage]} × the better TRL")
    print(f"  {'side':24}{'runs':>5}{unit + '/s':>14}{'ours / it':>12}{'seconds':>10}{'CPU s':>9}{'peak MiB':>11}  phases, seconds")
    for side, found in sides.items():
        middle = sorted(found, key=lambda one: one["seconds"])[len(found) // 2]
        memory = statistics.median(one["memory"] for one in found) / 2**20
        processor = statistics.median(one["processor"] for one in found)
        ratio = f"{speeds['ours'] / speeds[side]:.2f} ×" if "ours" in speeds else ""
        phases = ", ".join(f"{name} {spent:.1f}" for name, spent in middle["phases"].items())
        row = f"  {side:24}{len(found):5}{speeds[side]:14.2f}{ratio:>12}{middle['seconds']:10.1f}{processor:9.1f}{memory:11.0f}"
        print(f"{row}  {phases}".rstrip())
    versions = {name: version for one in runs for name, version in one["versions"].items()}
    print("  " + ", ".join(f"{name} {version}" for name, version in versions.items()))


def main() -> None:
    """Build, run in turn, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for models, slices, environments and runs; used again")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data", help="stanford-alpaca/, hh-rlhf/, tokenizers/llama/")
    parser.add_argument("--prompts", choices=["hh-rlhf", "alpaca"], default="hh-rlhf", help="what PPO's samples answer")
    parser.add_argument("--share", type=float, default=1.0, help="of tokens, pairs and samples, so much")
    parser.add_argument("--only", choices=list(SIDES), help="one stage")
    parser.add_argument("--sides", help="of ours, default, tuned, …: those named, separated by semicolons")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peer-python", type=Path, help="a Python with TRL 1.16.0 (default: an environment made for it)")
    parser.add_argument("--ppo-python", type=Path, help="a Python with TRL 1.12.0")
    parser.add_argument("--quick", action="store_true", help="an eighth of the data, once")
    parser.add_argument("--synthetic", action="store_true", help="a tiny shape on random tokens, our side only unless --sides says more")
    given = parser.parse_args()
    work: Path = given.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    share = 0.125 if given.quick or given.synthetic else given.share
    tokens, rows = round(40_000 * share), round(64 * share)
    if not (work / "slices.json").exists():
        tokenizer = tokenizer_of(None if given.synthetic else given.data / "tokenizers/llama")
        shape = "smallest" if given.synthetic else "50M"
        build(work, shape, tokenizer)
        slices = random_slices(300, tokens, rows) if given.synthetic else real_slices(given.data, tokenizer, tokens, rows, given.prompts)
        whole = {**slices, "batch": BATCH, "reply": 12 if given.synthetic else 48}
        (work / "slices.json").write_text(json.dumps(whole), encoding="utf-8")
    log = work / "runs.jsonl"
    for stage in [given.only] if given.only else SIDES:
        sides = given.sides.split(";") if given.sides else ["ours"] if given.synthetic else SIDES[stage]
        chosen = {"ppo": given.ppo_python}.get(stage, given.peer_python)
        for _ in range(1 if given.quick or given.synthetic else given.repeat):
            for side in sides:
                python = None if side == "ours" else chosen or environment(work / PEERS[stage].replace("==", "-"), PEERS[stage])
                with log.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(run(stage, side, work, given.threads, python)) + "\n")
    runs = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    for stage in SIDES:
        if found := [one for one in runs if one["stage"] == stage]:
            report(stage, found)


if __name__ == "__main__":
    main()
