"""What each stage learns on real data: a small bilingual model, from random weights to PPO and DPO, and its curves.

    python -m benchmarks.learning --data ../shared/data --out runs/bilingual --figures docs/images/learning

Lays the data out as text, conversations, pairs and prompts that share no row, with a benchmark held out of all of them; runs
`trainers run recipes/bilingual.yaml`; draws the curves of what was held out, and prints a table with the intervals that evalkit gives.
Started again after a kill it goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.curves import Curve, write
from evalkit.statistics import wilson
from modelkit import atomic
from trainers.data.formats import Row, load

ROOT = Path(__file__).resolve().parent.parent
RECIPE = ROOT / "recipes/bilingual.yaml"
CHATS = {
    "en": ["stanford-alpaca/data/alpaca_5000.json", "llama-factory-demo/alpaca_en_demo.json"],
    "zh": ["llama-factory-demo/alpaca_zh_demo.json", "oaast-zh/oaast_sft_zh.json"],
}
PAIRS = {
    "hh-rlhf": "hh-rlhf/harmless-base/test.jsonl.gz",
    "dpo-en": "llama-factory-demo/dpo_en_demo.json",
    "dpo-zh": "llama-factory-demo/dpo_zh_demo.json",
    "oaast-zh": "oaast-zh/oaast_rm_zh.json",
}
PIECE = 1500  # characters of plain text in a row
LONGEST_PROMPT = 160  # characters
SUITE = {
    "name": "bilingual",
    "languages": ["en", "zh"],
    "tasks": {
        "text": {"kind": "text", "data": "text.jsonl"},
        "pairs": {"kind": "pairs", "data": "pairs.jsonl"},
        "reward": {"kind": "reward", "data": "prompts.jsonl", "reward_model": "rm", "reference": "sft", "samples": 4, "max_tokens": 48},
    },
}


def lay_out(data: Path, folder: Path, share: float = 1.0, seed: int = 0) -> None:
    """Write training files and the held-out benchmark into *folder*, from the first *share* of every file in *data*."""
    draw = random.Random(seed)
    texts: list[Row] = []
    held: dict[str, list[Row]] = {"text": [], "pairs": [], "prompts": []}
    for language, files in {
        "en": ["wikitext-2/wikitext-2/valid.txt", "wikitext-2/wikitext-2/test.txt"],
        "zh": ["hongloumeng/input.txt"],
    }.items():
        for file in files:
            rows = [{"text": text, "category": language} for text in pieces((data / file).read_text(encoding="utf-8"))]
            rows = rows[: max(20, int(share * len(rows)))]
            cut = len(rows) * 19 // 20
            texts += rows[:cut]
            held["text"] += rows[cut:][:20]
    chats: list[Row] = []
    for language, files in CHATS.items():
        known: set[str] = set()
        for file in files:
            rows = [row for row in _some(load(data / file, "sft").rows, share, draw) if _asked(row) not in known]
            known |= {_asked(row) for row in rows}
            half = len(rows) // 2
            texts += [{"text": "\n".join(message["content"] for message in row["messages"]), "category": language} for row in rows[:half]]
            chats += [{"messages": row["messages"], "category": language} for row in rows[half:]]
    pairs: list[Row] = []
    for source, file in PAIRS.items():
        groups: dict[str, list[Row]] = {}
        for row in _some(load(data / file, "preference").rows, share, draw):
            groups.setdefault(json.dumps(row["messages"]), []).append({**row, "subject": source})
        apart = len(groups) * 3 // 20
        held["pairs"] += [row for rows in list(groups.values())[:apart] for row in rows]
        pairs += [row for rows in list(groups.values())[apart:] for row in rows]
    prompts = [{"messages": row["messages"][:1], "category": row["category"]} for row in chats if len(_asked(row)) <= LONGEST_PROMPT]
    draw.shuffle(prompts)
    apart = min(64, len(prompts) // 4)
    held["prompts"], prompts = prompts[:apart], prompts[apart:]
    asked = {_asked(row) for row in held["prompts"]}
    chats = [row for row in chats if _asked(row) not in asked]
    with atomic.directory(folder) as beside:
        (beside / "benchmark").mkdir()
        for name, rows in {"text": texts, "sft": chats, "pairs": pairs, "prompts": prompts}.items():
            _write(beside / f"{name}.jsonl", rows)
        for name, rows in held.items():
            _write(beside / "benchmark" / f"{name}.jsonl", rows)
        (beside / "benchmark/task.yaml").write_text(yaml.safe_dump(SUITE, sort_keys=False), encoding="utf-8")


def pieces(text: str) -> Iterator[str]:
    """*text* in pieces of about ``PIECE`` characters that end with a line."""
    piece = ""
    for line in text.splitlines(keepends=True):
        piece += line
        if len(piece) >= PIECE:
            yield piece
            piece = ""
    if piece.strip():
        yield piece


def _asked(row: Row) -> str:
    return str(row["messages"][0]["content"])


def _some(rows: list[Row], share: float, draw: random.Random) -> list[Row]:
    draw.shuffle(rows)
    return rows[: max(20, int(share * len(rows)))]


def _write(file: Path, rows: Sequence[Row]) -> None:
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def train(out: Path, settings: Sequence[str]) -> None:
    """All stages, or what is left of them."""
    overrides = [part for one in settings for part in ("--set", one)]
    command = [sys.executable, "-m", "trainers", "run", str(RECIPE), "--out", str(out), "--data", str(out / "data"), *overrides]
    subprocess.run(command, cwd=ROOT, check=True)


def curve(out: Path, stage: str, metric: str) -> list[tuple[float, float]]:
    """(step, value) of a number that a stage's evaluations logged."""
    lines = (out / "logs" / f"{stage}.jsonl").read_text(encoding="utf-8").splitlines()
    events = [event for event in map(json.loads, lines) if event["event"] == "eval"]
    return [(event["step"], event["metrics"][metric]) for event in events if metric in event["metrics"]]


def draw(out: Path, figures: Path) -> None:
    """One figure a stage, from the logs."""
    write(figures / "sft.svg", "SFT: loss on held-out conversations", [Curve("eval_loss", curve(out, "sft", "eval_loss"))])
    write(figures / "base.svg", "Pretraining: loss on held-out text", [Curve("eval_loss", curve(out, "base", "eval_loss"))])
    accuracy = curve(out, "rm", "eval_accuracy")
    held = int(yaml.safe_load(RECIPE.read_text(encoding="utf-8"))["rm"]["held_out"] * _rankings(out / "data/pairs.jsonl"))
    band = [wilson(value * held, held) for _, value in accuracy]
    write(figures / "rm.svg", "Reward model: accuracy on held-out pairs", [Curve(f"95 % of {held}", accuracy, band)], level=0.5)
    for metric, name in {"eval_reward": "reward", "eval_kl": "KL to SFT, nats per reply"}.items():
        write(figures / f"ppo-{metric[5:]}.svg", f"PPO: {name}, held-out prompts", [Curve(metric, curve(out, "rl", metric))])
    write(figures / "dpo.svg", "DPO: margin on held-out pairs", [Curve("eval_margin", curve(out, "dpo", "eval_margin"))], level=0.0)


def _rankings(file: Path) -> int:
    """What the reward model holds out a share of: pairs, those of one ranked list together."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return len({row.get("ranking") or number for number, row in enumerate(rows)})


def table(out: Path) -> str:
    """Before and after by stage, as Markdown; intervals are 95 %."""

    def ends(stage: str, metric: str) -> tuple[float, float]:
        points = curve(out, stage, metric)
        return points[0][1], points[-1][1]

    def score(stage: str, task: str) -> dict[str, Any]:
        tasks = json.loads((out / "eval" / f"{stage}-card" / "results.json").read_text(encoding="utf-8"))["tasks"]
        (methods,) = (entry["methods"] for name, entry in tasks.items() if name.split("@")[0] == f"bilingual.{task}")
        (found,) = methods.values()
        return dict(found)

    lines = ["| stage | held out | before | after |", "|---|---|---|---|"]
    for stage, what, metric in (
        ("base", "loss on text, nats per token", "eval_loss"),
        ("sft", "loss on conversations, nats per token", "eval_loss"),
        ("rm", "accuracy on pairs, along the way", "eval_accuracy"),
        ("rl", "reward of sampled replies", "eval_reward"),
        ("rl", "KL to SFT, nats per reply", "eval_kl"),
        ("dpo", "margin on pairs", "eval_margin"),
        ("dpo", "accuracy on pairs", "eval_accuracy"),
    ):
        before, after = ends(stage, metric)
        lines.append(f"| {stage} | {what} | {before:.3f} | {after:.3f} |")
    pairs, reward = score("rm", "pairs"), score("rl", "reward")
    low, high = pairs["ci95"]
    lines += ["", "| benchmark (evalkit) | value | 95 % |", "|---|---|---|"]
    lines.append(f"| reward model, accuracy on {pairs['n']} pairs | {pairs['value']:.3f} | {low:.3f}–{high:.3f} |")
    for source, row in pairs["subjects"].items():
        low, high = wilson(row["accuracy"] * row["n"], row["n"])
        lines.append(f"| … on {row['n']} of {source} | {row['accuracy']:.3f} | {low:.3f}–{high:.3f} |")
    low, high = reward["win_rate_ci95"]
    lines.append(f"| PPO's replies beat SFT's, share of {reward['n']} prompts | {reward['win_rate']:.3f} | {low:.3f}–{high:.3f} |")
    lines.append(f"| … by standard deviations of SFT's rewards | {reward['effect_size']:.2f} | |")
    lines.append(f"| … at a KL to SFT of, nats per reply of {reward['length']:.0f} tokens | {reward['kl_to_reference']:.2f} | |")
    return "\n".join(lines)


def main() -> None:
    """Lay out, train, draw, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data", help="the folder of real data")
    parser.add_argument("--out", type=Path, default=Path("runs/bilingual"), help="the run's directory")
    parser.add_argument("--figures", type=Path, help="where the curves go (default: figures/ in the run)")
    parser.add_argument("--share", type=float, default=1.0, help="of every data file, so much")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a field of the recipe")
    given = parser.parse_args()
    out = given.out.resolve()
    if not (out / "data").is_dir():
        lay_out(given.data, out / "data", given.share)
    train(out, given.set)
    draw(out, given.figures or out / "figures")
    print(table(out))


if __name__ == "__main__":
    main()
