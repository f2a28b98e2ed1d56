"""What the server costs: seconds until it is ready, and tokens per second of 8 streams over HTTP beside the engine alone.

    python -m benchmarks.server --tokenizer DIR [--shape 50M | pocket] [--rounds 5] [--threads 2]

DIR holds a LLaMA tokenizer; weights are random. The engine runs here, on its thread; the server in a process of its own, asked from
here by a client that does little more than count. Both take turns on the same prompts; nothing ends before its last token.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from modelkit.device import prepare_process, set_threads

prepare_process()  # before torch is imported
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import httpx  # noqa: E402
import torch  # noqa: E402
from transformers import LlamaConfig, LlamaForCausalLM, LlamaTokenizer  # noqa: E402

from benchmarks.engine import SHAPES, prompts  # noqa: E402
from modelkit.generation.engine import Engine  # noqa: E402
from modelkit.generation.requests import Piece, Request  # noqa: E402
from modelkit.generation.sampling import Sampling  # noqa: E402
from playground.models import Loaded, Models  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
STREAMS, PROMPT, NEW = 8, 48, 128


def build(folder: Path, shape: str, tokenizer: Path) -> None:
    """Save a checkpoint with random weights that never ends by itself."""
    torch.manual_seed(0)
    words = LlamaTokenizer.from_pretrained(tokenizer)
    config = LlamaConfig(**{**SHAPES[shape], "vocab_size": len(words)}, max_position_embeddings=2048, tie_word_embeddings=True)
    model = LlamaForCausalLM(config)
    model.generation_config.eos_token_id = None
    model.save_pretrained(folder)
    words.eos_token = None
    words.save_pretrained(folder)


@contextmanager
def served(path: Path, threads: int) -> Iterator[tuple[str, float]]:
    """``playground serve`` in a process of its own: its address, and the seconds from its start until it was ready."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "playground", "serve", "-m", str(path), "--port", "0"]
    environment = {**os.environ, "PLAYGROUND_THREADS": str(threads), "OMP_NUM_THREADS": str(threads), "PLAYGROUND_API_KEY": ""}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    ready = re.search(r"http://\S+", process.stdout.readline())
    if ready is None:
        sys.exit(f"`{' '.join(command)}` did not start")
    try:
        yield ready[0], time.perf_counter() - started
    finally:
        process.terminate()
        process.wait()


def alone(engine: Engine, asked: list[list[int]]) -> float:
    """Tokens per second of the engine, texts included; nobody reads along."""
    tokens, ended, started = [0], threading.Semaphore(0), time.perf_counter()

    def deliver(piece: Piece) -> None:
        tokens[0] += piece.token is not None
        if piece.finish:
            ended.release()

    for ids in asked:
        engine.submit(Request(ids, Sampling(NEW, temperature=0)), deliver=deliver)
    for _ in asked:
        ended.acquire()
    return tokens[0] / (time.perf_counter() - started)


async def over_http(client: httpx.AsyncClient, url: str, model: str, asked: list[list[int]]) -> tuple[float, float]:
    """Tokens per second of as many streams, and the mean seconds to the first token."""
    started = time.perf_counter()

    async def stream(ids: list[int]) -> tuple[int, float]:
        options = {"stream": True, "stream_options": {"include_usage": True}}
        body: dict[str, Any] = {"model": model, "prompt": ids, "max_tokens": NEW, "temperature": 0, **options}
        first, last = 0.0, ""
        async with client.stream("POST", f"{url}/completions", json=body) as response:
            async for line in response.aiter_lines():
                first = first or time.perf_counter() - started
                last = line if line.startswith("data: {") else last
        return json.loads(last[6:])["usage"]["completion_tokens"], first

    found = await asyncio.gather(*map(stream, asked))
    return sum(tokens for tokens, _ in found) / (time.perf_counter() - started), statistics.mean(first for _, first in found)


async def in_turn(url: str, name: str, loaded: Loaded, rounds: int) -> None:
    """Measure both by turns, after a round that is not counted, and print."""
    assert isinstance(loaded.model, LlamaForCausalLM)
    rates: list[tuple[float, float]] = []
    firsts = []
    async with httpx.AsyncClient(timeout=600) as client:
        for turn in range(rounds + 1):
            asked = prompts(loaded.model, STREAMS, PROMPT, seed=turn)
            own = await asyncio.to_thread(alone, loaded.engine, asked)
            rate, first = await over_http(client, url, name, asked)
            if turn:
                rates.append((own, rate))
                firsts.append(first)
    print(f"engine alone            {statistics.median(own for own, _ in rates):8.0f} tokens/s")
    print(f"through the server      {statistics.median(rate for _, rate in rates):8.0f} tokens/s")
    print(f"share that gets through {statistics.median(rate / own for own, rate in rates):8.0%}")
    print(f"first token, mean       {1000 * statistics.median(firsts):8.0f} ms")


def main() -> None:
    """Build, serve, measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--shape", choices=list(SHAPES), default="50M")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=None)
    given = parser.parse_args()
    threads = set_threads(given.threads)
    with tempfile.TemporaryDirectory() as work:
        path = Path(work) / given.shape
        build(path, given.shape, given.tokenizer)
        models = Models([], 1 << 40, None, [path])
        loaded = models.language(models.entry(path.name))
        with served(path, threads) as (url, seconds):
            print(f"{given.shape} shape, torch {torch.__version__}, threads: {threads}")
            print(f"ready after             {seconds:8.1f} s")
            asyncio.run(in_turn(url, path.name, loaded, given.rounds))
        models.close()


if __name__ == "__main__":
    main()
