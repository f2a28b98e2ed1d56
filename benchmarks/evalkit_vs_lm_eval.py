"""evalkit beside lm-evaluation-harness: same checkpoint, same questions, same protocol, one after the other on the same machine.

    python benchmarks/evalkit_vs_lm_eval.py --data DIR --tokenizer DIR [--peer-python PYTHON] [--repeat 3]

DIR of --data holds mmlu/ and cmmlu/ in their original layouts, DIR of --tokenizer a LLaMA tokenizer. The script builds a random
LLaMA-shaped checkpoint of 51 million parameters, writes lm-eval's own mmlu and cmmlu tasks over the local files, runs both in turn,
and prints a table. Without --peer-python it makes an environment with lm-eval 0.4.13 beside the checkpoint. --synthetic needs neither
data nor peer (see synthetic_scoring.py) and takes a GPU where there is one.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LM_EVAL = "lm_eval[hf]==0.4.13"
SUBJECTS = {
    "mmlu": ["abstract_algebra", "anatomy", "college_physics", "marketing"],
    "cmmlu": ["agronomy", "anatomy", "college_mathematics", "marketing"],
}
SHAPE: dict[str, Any] = {
    "vocab_size": 32000,
    "hidden_size": 512,
    "intermediate_size": 1376,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
    "initializer_range": 0.05,
}
PEER = """
import json, sys, time
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
checkpoint, tasks, folder, out = sys.argv[1], sys.argv[2].split(","), sys.argv[3], sys.argv[4]
seconds = 0.0
loglikelihood = HFLM.loglikelihood
def timed(self, requests, *rest, **options):
    global seconds
    start = time.perf_counter()
    found = loglikelihood(self, requests, *rest, **options)
    seconds += time.perf_counter() - start
    return found
HFLM.loglikelihood = timed
found = simple_evaluate(
    model="hf", model_args={"pretrained": checkpoint, "dtype": "float32"}, tasks=tasks, num_fewshot=5, batch_size=8, device="cpu",
    task_manager=TaskManager(include_path=folder), bootstrap_iters=0,
)
scores = {
    f"{task[6:]}/{sample['doc_id']}": [float(resp[0][0]) for resp in sample["resps"]]
    for task, samples in found["samples"].items() for sample in samples
}
json.dump({"seconds": seconds, "scores": scores}, open(out, "w"))
"""


@dataclass
class Run:
    """One process: seconds as a whole, by the clock and of processor time, and of scoring alone; bytes at its peak; log-probabilities of
    the letters by question.
    """

    whole: float
    processor: float
    scoring: float
    memory: int
    scores: dict[str, list[float]]
    first: float = 0.0
    computed: int = 0
    reused: int = 0
    flops: float = 0.0


def build(folder: Path, tokenizer: Path) -> None:
    """Save the checkpoint: random weights, the same every time."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.LlamaConfig(**SHAPE, bos_token_id=1, eos_token_id=2)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    transformers.LlamaTokenizer.from_pretrained(tokenizer).save_pretrained(folder)


def make_peer(folder: Path) -> Path:
    """An environment with lm-eval that finds this one's torch and transformers, so that both compute with the same."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "shared.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")) + "\n")
    subprocess.run([folder / "bin/python", "-m", "pip", "install", "-q", LM_EVAL], check=True)
    return folder / "bin/python"


def write_tasks(benchmark: str, subjects: list[str], data: Path, folder: Path, peer: Path) -> None:
    """lm-eval's own task of each subject, pointed at local files that hold the columns its templates name."""
    where = subprocess.run([peer, "-c", "import lm_eval; print(lm_eval.__path__[0])"], check=True, capture_output=True, text=True).stdout
    own = {"mmlu": "tasks/mmlu/default/mmlu_{}.yaml", "cmmlu": "tasks/cmmlu/cmmlu_{}.yaml"}[benchmark]
    folder.mkdir(parents=True, exist_ok=True)
    for subject in subjects:
        files = {}
        for split, name in {"dev": f"{subject}_dev.csv", "test": f"{subject}_test.csv"}.items():
            plain = data / benchmark / "data" / split / (name if benchmark == "mmlu" else f"{subject}.csv")
            with plain.open(encoding="utf-8", newline="") as stream:
                if benchmark == "mmlu":
                    rows = [{"question": row[0], "choices": row[1:5], "answer": "ABCD".index(row[5])} for row in csv.reader(stream)]
                else:
                    rows = [{name: value for name, value in row.items() if name} for row in csv.DictReader(stream)]
            files[split] = str(folder / f"{subject}_{split}.jsonl")
            Path(files[split]).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        task = {
            "include": str(Path(where.strip()) / own.format(subject)),
            "task": f"local_{subject}",
            "tag": None,
            "dataset_path": "json",
            "dataset_name": None,
            "dataset_kwargs": {"data_files": files},
        }
        (folder / f"{subject}.yaml").write_text(json.dumps(task), encoding="utf-8")  # JSON is YAML


def process(command: list[str | Path], threads: int, journal: Path | None = None) -> tuple[float, float, int, float]:
    """Run a command: seconds by the clock and of processor time, peak bytes, seconds until an answer stood in *journal*."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PLAYGROUND_THREADS": str(threads), "HF_DATASETS_OFFLINE": "1"}
    environment |= {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT), "TOKENIZERS_PARALLELISM": "false"}
    first = [0.0]
    start = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen(
            [str(part) for part in command], env=environment, stdout=said, stderr=subprocess.STDOUT, cwd=tempfile.gettempdir()
        )

        def look() -> None:
            while journal is not None and not first[0] and child.returncode is None:
                if any(b'"id"' in file.read_bytes() for file in journal.glob("*.jsonl")):
                    first[0] = time.perf_counter() - start
                time.sleep(0.05)

        watcher = threading.Thread(target=look, daemon=True)
        watcher.start()
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
        watcher.join()
        if child.returncode:
            said.seek(0)
            sys.exit(f"{' '.join(map(str, command))[:200]} failed:\n{said.read().decode(errors='replace')[-3000:]}")
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, first[0]


def run_peer(peer: Path, checkpoint: Path, subjects: list[str], tasks: Path, threads: int) -> Run:
    """lm-eval, timed around the method that takes its requests: tokenisation and forward passes."""
    out = tasks / "peer.json"
    whole, processor, memory, _ = process([peer, "-c", PEER, checkpoint, ",".join(f"local_{one}" for one in subjects), tasks, out], threads)
    found = json.loads(out.read_text(encoding="utf-8"))
    return Run(whole, processor, found["seconds"], memory, found["scores"])


def run_ours(checkpoint: Path, benchmark: str, subjects: list[str], data: Path, folder: Path, threads: int) -> Run:
    """evalkit, timed by itself from the loaded model to the last score: prompts, tokenisation and forward passes."""
    with tempfile.TemporaryDirectory(dir=folder) as made:
        out = Path(made) / "result"
        command: list[str | Path] = [
            sys.executable,
            "-m",
            "evalkit",
            "run",
            "-m",
            checkpoint,
            "-t",
            f"{benchmark}@lm-eval",
            "--data",
            data,
            "--shots",
            "5",
        ]
        command += ["--subjects", ",".join(subjects), "--dtype", "fp32", "--out", out]
        whole, processor, memory, first = process(command, threads, out.with_name("result.journal"))
        speed = json.loads((out / "results.json").read_text(encoding="utf-8"))["speed"]
        lines = (out / "samples" / f"{benchmark}@lm-eval.jsonl").read_text(encoding="utf-8").splitlines()
    scores = {row["id"]: list(row["scores"].values()) for row in map(json.loads, lines)}
    return Run(whole, processor, speed["seconds"], memory, scores, first, speed["tokens_computed"], speed["tokens_reused"], speed["flops"])


def gemm_rate(threads: int, tokens: int = 512) -> dict[str, float]:
    """FLOP/s of the model's own matrix products on this machine, by the library torch takes and by the one that evalkit takes."""
    import torch
    from torch.nn.functional import linear

    sys.path.insert(0, str(ROOT))
    from modelkit.linear import fast_linear

    torch.set_num_threads(threads)
    hidden, inner = SHAPE["hidden_size"], SHAPE["intermediate_size"]
    pairs = [(torch.randn(tokens, i), torch.randn(o, i)) for o, i in ((hidden, hidden), (inner, hidden), (hidden, inner))]
    rates = {}
    for name, context in {"MKL": torch.inference_mode(), "oneDNN": fast_linear(torch.device("cpu"), torch.float32)}.items():
        with torch.inference_mode(), context:
            best = float("inf")
            for _ in range(30):
                start = time.perf_counter()
                for states, weight in pairs:
                    linear(states, weight)
                best = min(best, time.perf_counter() - start)
        rates[name] = sum(2 * tokens * weight.numel() for _, weight in pairs) / best
    return rates


def report(benchmark: str, ours: list[Run], peers: list[Run], rates: list[dict[str, float]]) -> None:
    """Print the table: medians over the runs, ratios pair by pair."""

    def median(values: list[float]) -> float:
        return statistics.median(values)

    print(f"\n{benchmark}: {len(ours[0].scores)} questions, {len(ours)} runs in turn")
    print(f"{'':34}{'evalkit':>12}{'lm-eval':>12}{'ratio':>9}")
    for name, field in {"scoring, s": "scoring", "whole process, s": "whole", "whole process, CPU s": "processor"}.items():
        mine, other = [getattr(run, field) for run in ours], [getattr(run, field) for run in peers]
        ratio = median([b / a for a, b in zip(mine, other, strict=True)])
        print(f"{name:34}{median(mine):12.1f}{median(other):12.1f}{ratio:8.1f}×")
    low, high = median([run.memory for run in ours]), median([run.memory for run in peers])
    print(f"{'peak memory, MiB':34}{low / 2**20:12.0f}{high / 2**20:12.0f}{high / low:8.2f}×")
    rate = median([run.flops / run.scoring for run in ours])
    print(f"{'tokens computed / reused':34}{ours[0].computed:>12,} / {ours[0].reused:,}")
    print(f"{'GFLOP/s of needed work':34}{rate / 1e9:12.0f}")
    for name in rates[0]:
        own = median([one[name] for one in rates])
        print(f"{f'share of the GEMM rate by {name}':34}{rate / own:12.0%}   ({own / 1e9:.0f} GFLOP/s)")
    print(f"{'first scored question, s':34}{median([run.first for run in ours]):12.1f}")
    scores, peer = ours[0].scores, peers[0].scores
    if scores.keys() != peer.keys():
        sys.exit(f"not the same questions: {sorted(scores.keys() ^ peer.keys())[:5]} …")
    off = max(abs(a - b) for id in scores for a, b in zip(scores[id], peer[id], strict=True))
    differ = [id for id in scores if best(scores[id]) != best(peer[id])]
    ties = sum(sorted(peer[id])[-1] - sorted(peer[id])[-2] <= 1e-4 for id in differ)
    print(f"{'largest difference of log p':34}{off:12.1e}")
    print(f"{'different predictions':34}{len(differ):12}   ({ties} of them with the two best within 1e-4)")


def best(scores: list[float]) -> int:
    """The place of the highest score."""
    return max(range(len(scores)), key=scores.__getitem__)


def main() -> None:
    """Build, run in turn, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data")
    parser.add_argument("--tokenizer", type=Path, default=ROOT.parent / "shared/data/tokenizers/llama")
    parser.add_argument("--peer-python", type=Path, help="a Python with lm-eval (default: an environment made for it)")
    parser.add_argument("--benchmarks", default="mmlu,cmmlu")
    parser.add_argument("--subjects", type=int, default=4, help="of each benchmark's four, the first so many")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--work", type=Path, help="folder for checkpoint, environment and tasks, used again (default: a temporary one)")
    parser.add_argument("--synthetic", action="store_true", help="random prompts and no peer: sharing beside what harnesses do")
    given = parser.parse_args()
    if given.synthetic:
        sys.path.insert(0, str(ROOT))
        import synthetic_scoring  # type: ignore[import-not-found]

        synthetic_scoring.main(SHAPE)
        return
    with tempfile.TemporaryDirectory() as temporary:
        work = (given.work or Path(temporary)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        checkpoint = work / "llama-51m"
        if not (checkpoint / "config.json").exists():
            build(checkpoint, given.tokenizer)
        peer = (given.peer_python or make_peer(work / "lm-eval")).absolute()
        for benchmark in given.benchmarks.split(","):
            subjects = SUBJECTS[benchmark][: given.subjects]
            write_tasks(benchmark, subjects, given.data.resolve(), work / benchmark, peer)
            ours, peers, rates = [], [], []
            for _ in range(given.repeat):
                rates.append(gemm_rate(given.threads))
                ours.append(run_ours(checkpoint, benchmark, subjects, given.data.resolve(), work, given.threads))
                rates.append(gemm_rate(given.threads))
                peers.append(run_peer(peer, checkpoint, subjects, work / benchmark, given.threads))
            report(benchmark, ours, peers, rates)


if __name__ == "__main__":
    main()
