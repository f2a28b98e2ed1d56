"""How long a large leaderboard takes to build: 1,000 results and 100,000 votes, all made up.

    python -m benchmarks.leaderboard_build

50 runs of five stages, each measured on four benchmarks with as many subjects as MMLU, CMMLU, C-Eval and GSM8K have; blind votes
between all 250 checkpoints by 20,000 sessions, put into a store one by one as the arena does. Timed is the command as a user types it,
start of Python, bootstrap of the ratings and all.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.progress import track

from leaderboards.votes.store import Store, address
from modelkit import atomic
from modelkit.chat import Message
from modelkit.fingerprint import sha256_of_messages, sha256_of_text
from modelkit.records import Side, Vote
from modelkit.run import Run, RunInfo, Stage

STAGES = {"base": "base", "sft": "sft", "dpo": "rl", "rl": "rl", "rl-gptq4": "rl"}
BENCHMARKS = {"mmlu@hendrycks": (57, 14_042), "cmmlu@official": (67, 11_582), "ceval@official": (52, 12_342), "gsm8k": (1, 1_319)}
"""Subjects and questions."""
CATEGORIES = ("STEM", "humanities", "social sciences", "other")
SESSIONS = 20_000


def write_runs(folder: Path, results: int, draw: random.Random) -> dict[str, tuple[str, float]]:
    """Runs with so many results; returns each checkpoint's fingerprint and strength by ``run/stage``."""
    known: dict[str, tuple[str, float]] = {}
    for number in range(math.ceil(results / len(STAGES) / len(BENCHMARKS))):
        stages = [Stage.model_validate({"name": name, "kind": kind, "title": {"en": name}}) for name, kind in STAGES.items()]
        run = Run.create(folder / f"run-{number:02}", RunInfo(name="made up", recipe="sha256:0", languages=["en", "zh"], stages=stages))
        for place, stage in enumerate(STAGES):
            strength = draw.gauss(0.2 * place, 0.5)
            mark = sha256_of_text(f"{number} {stage}")
            known[f"{run.path.name}/{stage}"] = mark, strength
            for name in BENCHMARKS:
                file = run.evaluations() / f"{stage}-{name.partition('@')[0]}" / "results.json"
                atomic.write_json(file, result(file.parent.name + f"-{number}", stage, mark, name, strength, draw))
    return known


def result(name: str, stage: str, mark: str, task: str, strength: float, draw: random.Random) -> dict[str, Any]:
    """A result of one benchmark."""
    subjects, n = BENCHMARKS[task]
    chance = 0.25 if subjects > 1 else 0.0
    level = chance + (1.0 - chance) / (1.0 + math.exp(1.0 - strength))
    rows: dict[str, dict[str, Any]] = {
        f"subject_{k}": {"n": n // subjects, "accuracy": min(1.0, max(0.0, draw.gauss(level, 0.05))), "category": CATEGORIES[k % 4]}
        for k in range(subjects)
    }
    categories = {
        category: {"n": n // 4, "accuracy": sum(row["accuracy"] for row in own) / len(own)}
        for category in CATEGORIES
        if (own := [row for row in rows.values() if row["category"] == category])
    }
    value = sum(row["accuracy"] for row in rows.values()) / subjects
    error = 1.96 * math.sqrt(value * (1.0 - value) / n)
    score = {"value": value, "n": n, "ci95": [value - error, value + error], "micro": value, "macro": value, "official": "micro"}
    score |= {"subjects": rows, "categories": categories} if subjects > 1 else {"metric": "exact_match"}
    kind = {"kind": "choice", "chance": chance, "shots": 5} if subjects > 1 else {"kind": "answer"}
    return {
        "id": name,
        "model": {"path": stage, "fingerprint": mark, "dtype": "bf16"},
        "tasks": {task: {**kind, "data": f"sha256:{task}", "methods": {"letters" if subjects > 1 else "generate": score}}},
        "speed": {"seconds": 100.0, "questions_per_s": n / 100.0, "tokens_computed": 700 * n, "flops": 1e13 * n},
        "environment": {"torch": "2.13.0", "transformers": "5.23.0", "python": platform.python_version()},
    }


def votes(count: int, known: dict[str, tuple[str, float]], draw: random.Random) -> Iterator[Vote]:
    """Blind votes, of which every sixth is a tie; a longer reply is preferred a little."""
    names = list(known)
    for number in range(count):
        a, b = draw.sample(names, 2)
        lengths = [draw.randint(20, 200) for _ in range(2)]
        odds = known[a][1] - known[b][1] + math.tanh((lengths[0] - lengths[1]) / 100.0)
        winner = draw.choice(("tie", "both_bad")) if draw.random() < 1 / 6 else "a" if draw.random() < 1 / (1 + math.exp(-odds)) else "b"
        sides = [side(number, name, known[name][0], length, draw) for name, length in zip((a, b), lengths, strict=True)]
        yield Vote(
            id=f"vote-{number:06}",
            time=1.7e9 + number,
            session=f"session-{draw.randrange(SESSIONS)}",
            a=sides[0],
            b=sides[1],
            winner=winner,
            language=draw.choice(("en", "zh")),
            sampling={"temperature": 0.7},
            reward_model="sha256:rm",
            seconds=20.0,
        )


def side(number: int, name: str, mark: str, length: int, draw: random.Random) -> Side:
    """One reply of so many characters."""
    question = Message(role="user", content=f"What is the answer to question {number}?")
    messages = [question, Message(role="assistant", content=("It is what one would think. " * 8)[:length])]
    return Side(checkpoint=name, fingerprint=mark, messages=messages, sha256=sha256_of_messages(messages), reward=draw.gauss(0, 1))


def main() -> None:
    """Make everything up, build, print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=int, default=1_000)
    parser.add_argument("--votes", type=int, default=100_000)
    parser.add_argument("--work", type=Path, help="folder for what is made up, kept and used again (default: one that goes)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = given.work or Path(temporary)
        runs, store = work / "runs", work / "votes.sqlite"
        if not runs.exists():
            draw = random.Random(0)
            known = write_runs(runs, given.results, draw)
            kept = Store(address(str(store), runs))
            for vote in track(votes(given.votes, known, draw), "voting", given.votes):
                kept.add(vote)
            kept.close()
        build(runs, store, work / "site")


def build(runs: Path, store: Path, site: Path) -> None:
    """Build the site, and print time, memory and sizes."""
    command = [sys.executable, "-m", "leaderboards", "build", str(runs), "--votes", str(store), "--out", str(site)]
    started = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024**2
    print(done.stdout.strip().splitlines()[-1])
    ratings = json.loads((site / "leaderboard.json").read_text(encoding="utf-8"))["ratings"]
    print(f"{sum(row['wins'] + row['ties'] + row['losses'] for row in ratings) // 2:,} votes, {len(ratings):,} ratings")
    print(f"{seconds:.1f} s, {peak:.2f} GiB; index.html {(site / 'index.html').stat().st_size / 1e6:.1f} MB")
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}")


if __name__ == "__main__":
    main()
