"""The generation engine beside transformers: `generate` one by one, and its continuous batching.

    python -m benchmarks.engine                 # all measurements, a few minutes
    python -m benchmarks.engine --soak 600      # 64 users × 3 turns again and again for ten minutes

Random weights, made here: a 50 M LLaMA shape and one like the pocket recipe's model. The engine's copy is packed, as the playground and
the server do it after loading. Contenders take turns within each round and the medians of their times are compared, since other work on
the machine comes and goes; ratios tell more than seconds.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import resource
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modelkit.device import prepare_process, set_threads, take_short_turns

prepare_process()  # before torch is imported
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch  # noqa: E402
import transformers  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast  # noqa: E402

from modelkit.generation.batch import Batch  # noqa: E402
from modelkit.generation.engine import Engine, Limits  # noqa: E402
from modelkit.generation.prefixes import PrefixStore  # noqa: E402
from modelkit.generation.requests import Request  # noqa: E402
from modelkit.generation.sampling import Sampling  # noqa: E402
from modelkit.generation.worker import Worker  # noqa: E402
from modelkit.linear import pack  # noqa: E402

SHAPES: dict[str, dict[str, Any]] = {
    "50M": {"vocab_size": 16000, "hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 12, "num_attention_heads": 8},
    "pocket": {
        "vocab_size": 1600,
        "hidden_size": 256,
        "intermediate_size": 512,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
}
SMALLEST: dict[str, Any] = {"vocab_size": 300, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
PROMPT, NEW, STREAMS = 48, 48, 8
_WARM_ROUNDS = 3
"""Rounds of the soak after which memory ought to grow no more."""
Prompts = list[list[int]]
console = Console(width=140)


def make(shape: str) -> LlamaForCausalLM:
    """A LLaMA of one of the shapes with random weights."""
    torch.manual_seed(0)
    config = LlamaConfig(
        **SHAPES.get(shape, SMALLEST), max_position_embeddings=2048, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2
    )
    return LlamaForCausalLM(config).eval()


def served(shape: str) -> LlamaForCausalLM:
    """The same as the playground and the server hold it."""
    model = make(shape)
    pack(model)
    return model


def prompts(model: LlamaForCausalLM, count: int, length: int, seed: int = 0) -> Prompts:
    """Prompts of about *length* tokens that have nothing in common."""
    rng = random.Random(seed)
    return [
        [rng.randrange(10, model.config.vocab_size) for _ in range(rng.randrange(length * 3 // 4, length * 5 // 4))] for _ in range(count)
    ]


def one_by_one(model: Any, asked: Prompts) -> list[list[int]]:
    """transformers' generate, one prompt after the other."""
    found = []
    for prompt in asked:
        ids = torch.tensor([prompt])
        whole = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW, do_sample=False, eos_token_id=-1, pad_token_id=0
        )
        found.append(whole[0, len(prompt) :].tolist())
    return found


def batched(model: LlamaForCausalLM, asked: Prompts) -> list[list[int]]:
    """This project's batch, from nothing to the end."""
    batch = Batch(model, chunk=128, burst=512)
    found: dict[int, list[int]] = {batch.add(prompt, Sampling(NEW, temperature=0), stop=[]): [] for prompt in asked}
    while batch.busy:
        for token in batch.step():
            found[token.key].append(token.id)
    return list(found.values())


class Continuous:
    """transformers' continuous batching with a cache that fits the work (its default takes gigabytes and minutes on a CPU)."""

    def __init__(self, model: Any) -> None:
        from transformers import ContinuousBatchingConfig, GenerationConfig

        self._model = model
        pages = STREAMS * (-(-(PROMPT * 5 // 4 + NEW) // 32) + 1)
        sized = ContinuousBatchingConfig(num_blocks=pages, page_size=32, max_batch_tokens=512, max_requests_per_batch=STREAMS)
        settings = GenerationConfig(max_new_tokens=NEW, do_sample=False, eos_token_id=-1, pad_token_id=0)
        self._options = {"generation_config": settings, "continuous_batching_config": sized, "progress_bar": False}

    def __call__(self, _: Any, asked: Prompts) -> list[list[int]]:
        found = self._model.generate_batch(asked, persistent_manager=True, **self._options)
        return [list(output.generated_tokens) for output in found.values()]

    def close(self) -> None:
        """End its thread and give its cache back."""
        self._model.destroy_cached_continuous_batching_manager()


def rounds(contenders: dict[str, Callable[[], object]], count: int) -> dict[str, list[float]]:
    """Seconds of each contender in each round; they take turns, and a round before the first is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(count + 1):
        for name, run in contenders.items():
            started = time.perf_counter()
            run()
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def ratio(seconds: dict[str, list[float]], slow: str, fast: str) -> float:
    """How many times faster, as the median over rounds of the two times' ratio."""
    return statistics.median(left / right for left, right in zip(seconds[slow], seconds[fast], strict=True))


def throughput(shape: str, count: int, table: Table) -> None:
    """Eight streams at once against one after the other and against continuous batching."""
    model, ours = make(shape), served(shape)
    asked = prompts(model, STREAMS, PROMPT)
    expected, found = one_by_one(model, asked), batched(ours, asked)
    same = sum(left == right for left, right in zip(expected, found, strict=True))
    continuous = Continuous(make(shape))
    runs: dict[str, Callable[[], object]] = {
        "one by one": lambda: one_by_one(model, asked),
        "continuous": lambda: continuous(None, asked),
        "engine": lambda: batched(ours, asked),
    }
    seconds = rounds(runs, count)
    continuous.close()
    for name in runs:
        per_s = STREAMS * NEW / statistics.median(seconds[name])
        console.print(f"  {shape}: {STREAMS} streams, {name:10}: {per_s:8.1f} tokens/s")
    console.print(f"  {shape}: {same} of {STREAMS} greedy texts are those of generate, token for token")
    table.add_row(shape, "8 streams / one by one", f"{ratio(seconds, 'one by one', 'engine'):.2f} ×", "≥ 3 ×")
    table.add_row(shape, "8 streams / transformers' continuous batching", f"{ratio(seconds, 'continuous', 'engine'):.2f} ×", "≥ 1.2 ×")


def where(shape: str) -> None:
    """Where a step's time goes while eight rows draw."""
    model = served(shape)
    batch = Batch(model, chunk=128, burst=512)
    for prompt in prompts(model, STREAMS, PROMPT):
        batch.add(prompt, Sampling(128, temperature=0.8, top_p=0.95), stop=[])
    batch.step()
    batch.tally.seconds.clear()
    steps = 100
    for _ in range(steps):
        batch.step()
    parts = sorted(batch.tally.seconds.items(), key=lambda part: -part[1])
    whole = sum(batch.tally.seconds.values())
    console.print(
        f"  {shape}: a step of {STREAMS} sampling rows takes {whole / steps * 1e3:.2f} ms: "
        + ", ".join(f"{name} {value / whole:.1%}" for name, value in parts)
    )


def samples(shape: str, count: int, table: Table) -> None:
    """Eight samples of one prompt against one."""
    model = served(shape)
    [prompt] = prompts(model, 1, PROMPT)

    def run(n: int) -> None:
        batch = Batch(model)
        batch.add(prompt, Sampling(NEW, seed=1), stop=[], n=n)
        while batch.busy:
            batch.step()

    seconds = rounds({"1": lambda: run(1), "8": lambda: run(8)}, count)
    table.add_row(shape, "8 samples of a prompt / 1 sample", f"{ratio(seconds, '8', '1'):.2f} ×", "≤ 3 ×")


def second_turn(shape: str, table: Table) -> None:
    """Tokens read by the second turn of a chat."""
    model = served(shape)
    batch = Batch(model, prefixes=PrefixStore(1 << 28))
    first, question = prompts(model, 2, PROMPT)
    batch.add(first, Sampling(NEW, temperature=0), stop=[])
    reply = [token.id for _ in range(NEW) for token in batch.step()]
    before = batch.tally.computed
    batch.add([*first, *reply, *question], Sampling(1, temperature=0), stop=[])
    batch.step()
    read, new = batch.tally.computed - before, len(question)
    table.add_row(shape, f"second turn: tokens read, of {len(first) + len(reply) + new}", str(read), f"{new} new + 1")


def first_token(shape: str, count: int, table: Table) -> None:
    """Time to the first token of a visitor alone, and of each of eight who write and ask again, one thread each."""
    model = served(shape)

    def waits(users: int) -> list[float]:
        worker = Worker(Engine(model, byte_tokenizer(), Limits(), inline=False))
        engine, found = worker.engine, []
        assert engine is not None

        def visit(user: int) -> None:
            rng = random.Random(user)
            time.sleep(rng.random() * 0.5)
            for turn, prompt in enumerate(prompts(model, count, PROMPT, seed=user)):
                started = time.perf_counter()
                reply = engine.submit(Request(prompt, Sampling(NEW, temperature=0.8, seed=turn)))
                next(iter(reply))
                found.append(time.perf_counter() - started)
                reply.samples()

        in_threads(visit, users)
        worker.close(10)
        return found

    waits(1)
    alone, together = waits(1), waits(STREAMS)
    alone += waits(1)
    left, right = statistics.median(alone), statistics.median(together)
    console.print(f"  {shape}: first token after {left * 1e3:.0f} ms alone, {right * 1e3:.0f} ms with 8 visitors (medians)")
    table.add_row(shape, "first token: 8 visitors / 1", f"{right / left:.2f} ×", "≤ 2 ×")


def soak(shape: str, seconds: float, table: Table) -> None:
    """64 visitors have chats of three turns; every text must be the one the same seed gives alone, and memory must stay flat."""
    model = served(shape)
    worker = Worker(Engine(model, byte_tokenizer(), Limits(prefix_bytes=64 << 20), inline=False))
    engine = worker.engine
    assert engine is not None
    mixed, failed, texts, resident = [0], [0], [0], []

    def chat(user: int, speak: Callable[[Request], Any]) -> list[list[int]]:
        history, replies = prompts(model, 1, 16, seed=user)[0], []
        for turn in range(3):
            [sample] = speak(Request(history, Sampling(8 + user % 9, temperature=0.9, top_p=0.9, seed=user * 3 + turn)))
            failed[0] += sample.error is not None
            replies.append(sample.ids)
            history = [*history, *sample.ids, *prompts(model, 1, 8, seed=1000 + user + turn)[0]]
        return replies

    alone = Engine(model, byte_tokenizer())
    expected = [chat(user, lambda request: alone.submit(request).samples()) for user in range(64)]

    def visit(user: int) -> None:
        mixed[0] += chat(user, lambda request: engine.submit(request).samples()) != expected[user]
        texts[0] += 3

    started, turns = time.perf_counter(), 0
    while turns == 0 or time.perf_counter() - started < seconds:
        in_threads(visit, 64)
        turns += 1
        resident.append(resident_bytes())
    worker.close(10)
    warm = min(_WARM_ROUNDS, turns)
    early, late = resident[warm - 1], resident[-1]
    console.print(
        f"  {shape}: soak of {time.perf_counter() - started:.0f} s: {turns} rounds, {texts[0]} texts, {failed[0]} errors, {mixed[0]} chats "
        f"other than alone, resident memory {early >> 20} MiB after {warm} rounds and {late >> 20} MiB at the end"
    )
    table.add_row(shape, f"soak, {texts[0]} texts: errors + mixed-up chats", str(failed[0] + mixed[0]), "0")
    growth = f"{(late - early) / early:+.1%}" if turns > _WARM_ROUNDS else "–"
    table.add_row(shape, "soak: growth of resident memory", growth, "flat")


def in_threads(visit: Callable[[int], None], count: int) -> None:
    """Run ``visit(0)`` to ``visit(count - 1)`` side by side."""
    visitors = [threading.Thread(target=visit, args=(user,)) for user in range(count)]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer that knows bytes only: text costs what it costs, and its content doesn't matter here."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    tokenizer = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, merges=[]))
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def resident_bytes() -> int:
    """Memory of this process at present."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def main() -> None:
    """Measure everything for each shape, or soak only."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    shapes = "what to measure; the 50M shape has its soak only with --soak [all]"
    parser.add_argument("--shape", choices=[*SHAPES, "smallest", "all"], default="all", help=shapes)
    parser.add_argument("--rounds", type=int, default=5, help="rounds in which contenders take turns [5]")
    parser.add_argument("--threads", type=int, default=None, help="CPU threads [all, at most 8]")
    parser.add_argument("--soak", type=float, default=None, metavar="SECONDS", help="only the soak, for so long and at least a round")
    asked = parser.parse_args()
    threads = set_threads(asked.threads)
    take_short_turns()  # as the page and the server do
    transformers.logging.set_verbosity_error()
    logging.getLogger("ContinuousBatchingLogger").setLevel(logging.ERROR)
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}, threads: {threads}"
    console.print(f"{versions}; prompts of about {PROMPT} tokens, {NEW} new ones")
    table = Table("shape", "what", "measured", "bar")
    for shape in SHAPES if asked.shape == "all" else [asked.shape]:
        if asked.soak is None:
            where(shape)
            throughput(shape, asked.rounds, table)
            samples(shape, asked.rounds, table)
            second_turn(shape, table)
            first_token(shape, asked.rounds, table)
        if asked.soak is not None or shape != "50M":
            soak(shape, asked.soak or 0.0, table)
    console.print(table)


if __name__ == "__main__":
    main()
