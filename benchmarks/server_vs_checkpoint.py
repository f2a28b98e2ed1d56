"""lm-evaluation-harness on a checkpoint and through our server: the same questions must get the same numbers.

    python -m benchmarks.server_vs_checkpoint --data DIR --tokenizer DIR [--peer-python PYTHON] [--shots 5] [--limit 25]
    python -m benchmarks.server_vs_checkpoint --data DIR --checkpoint DIR --shots 2

The checkpoint is that of evalkit_vs_lm_eval.py (51 million random parameters) unless --checkpoint names one, the tasks lm-eval's own MMLU
over the local files in DIR of --data. `--model hf` reads the checkpoint, `--model local-completions` asks `playground serve`, which
lm-eval only knows as an OpenAI-compatible server. Without --peer-python an environment with lm-eval 0.4.13 is made.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.evalkit_vs_lm_eval import ROOT, SUBJECTS, build, make_peer, write_tasks
from benchmarks.server import served
from modelkit import checkpoint
from modelkit.context import longest_sequence

API = "lm_eval[api]==0.4.13"
PEER = """
import json, sys
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager
model, arguments, tasks, folder, shots, limit, out = sys.argv[1:]
found = simple_evaluate(
    model=model, model_args=json.loads(arguments), tasks=tasks.split(","), num_fewshot=int(shots), limit=int(limit), batch_size=4,
    task_manager=TaskManager(include_path=folder), bootstrap_iters=0,
)
scores = {
    f"{task}/{sample['doc_id']}": [[float(resp[0][0]), bool(resp[0][1])] for resp in sample["resps"]]
    for task, samples in found["samples"].items() for sample in samples
}
accuracy = {task: found["results"][task]["acc,none"] for task in found["samples"]}
json.dump({"scores": scores, "accuracy": accuracy}, open(out, "w"))
"""


def run(peer: Path, model: str, arguments: dict[str, Any], subjects: list[str], folder: Path, shots: int, limit: int) -> dict[str, Any]:
    """lm-eval in a process of its own: accuracies, and the log-probability of each letter with whether it was the likeliest token."""
    out = folder / f"{model}.json"
    words = [model, json.dumps(arguments), ",".join(f"local_{subject}" for subject in subjects), str(folder), str(shots), str(limit)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "OPENAI_API_KEY": "none"}
    started = time.perf_counter()
    done = subprocess.run([peer, "-c", PEER, *words, out], env=environment, cwd=tempfile.gettempdir(), capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"lm-eval with {model} failed:\n{done.stderr[-3000:]}")
    print(f"{model}: {time.perf_counter() - started:.0f} s", flush=True)
    found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return found


def report(here: dict[str, Any], there: dict[str, Any]) -> None:
    """Print both accuracies and the largest difference."""
    print(f"\n{'':32}{'checkpoint':>12}{'server':>12}")
    for task, value in here["accuracy"].items():
        print(f"{task:32}{value:12.4f}{there['accuracy'][task]:12.4f}")
    if here["scores"].keys() != there["scores"].keys():
        sys.exit("not the same questions")
    pairs = [(a, b) for id in here["scores"] for a, b in zip(here["scores"][id], there["scores"][id], strict=True)]
    print(f"{'questions':32}{len(here['scores']):12}")
    print(f"{'largest difference of log p':32}{max(abs(a[0] - b[0]) for a, b in pairs):12.1e}")
    print(f"{'different “is it greedy”':32}{sum(a[1] != b[1] for a, b in pairs):12}")


def main() -> None:
    """Build, run both, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data")
    parser.add_argument("--tokenizer", type=Path, default=ROOT.parent / "shared/data/tokenizers/llama")
    parser.add_argument("--checkpoint", type=Path, help="a trained one, in place of random weights")
    parser.add_argument("--peer-python", type=Path, help="a Python with lm_eval[hf,api] (default: an environment made for it)")
    parser.add_argument("--subjects", type=int, default=2)
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--limit", type=int, default=25, help="questions of each subject")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--work", type=Path, help="folder for checkpoint, environment and tasks, used again (default: a temporary one)")
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(given.threads)
    with tempfile.TemporaryDirectory() as temporary:
        work = (given.work or Path(temporary)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        path = (given.checkpoint or work / "llama-51m").resolve()
        if not (path / "config.json").exists():
            build(path, given.tokenizer)
        tokenizer = checkpoint.load_tokenizer(path)
        arguments = {
            "tokenizer": str(path),
            "tokenizer_backend": "huggingface",
            "add_bos_token": tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id,  # by itself only `--model hf` does as the tokenizer
            "max_length": longest_sequence(checkpoint.check(path)),
        }
        peer = given.peer_python.absolute() if given.peer_python else make_peer(work / "lm-eval")
        if given.peer_python is None:
            subprocess.run([peer, "-m", "pip", "install", "-q", API], check=True)
        subjects = SUBJECTS["mmlu"][: given.subjects]
        write_tasks("mmlu", subjects, given.data.resolve(), work / "mmlu", peer)
        asked = (subjects, work / "mmlu", given.shots, given.limit)
        here = run(peer, "hf", {"pretrained": str(path), "dtype": "float32", "device": "cpu"}, *asked)
        with served(path, given.threads) as (url, _):
            there = run(peer, "local-completions", {"model": path.name, "base_url": f"{url}/completions", **arguments}, *asked)
    report(here, there)


if __name__ == "__main__":
    main()
