"""What quantising costs: perplexity on held-out English and Chinese, in fp32, rounded to nearest, and by GPTQ.

    python benchmarks/gptq_quality.py --data path/to/data --cache ~/.cache/gptq --run runs/pocket

Two models with trained weights: one that this script pretrains (``pretrained.py``), and, where a run is given, its RL model. GPTQ
runs plainly and with act-order, on several draws of calibration data. The bars: at 3 bits GPTQ
closes at least half of the gap that rounding to nearest leaves; at 4 bits its mean is not worse than rounding to nearest by more
than the draws' spread.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from pretrained import pretrained, texts
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from modelkit import checkpoint
from modelkit.device import prepare_process, set_threads
from modelkit.gptq.layer import always_dequantise
from modelkit.linear import fast_linear
from trainers.gptq.blocks import find_blocks, linear_layers
from trainers.gptq.run import Settings
from trainers.gptq.run import run as run_gptq
from trainers.gptq.solver import Grid, round_to_nearest

WINDOW = 256
GROUPS = (128, 64, 32)
ORDERS = {"GPTQ": {}, "act-order": {"act_order": True}}


@dataclass(frozen=True)
class Subject:
    """A checkpoint, what to calibrate it on, and held-out texts by language. Long ones are read in windows."""

    name: str
    path: Path
    calibration: list[Path]
    held_out: dict[str, list[str]]


def subjects(data: Path, cache: Path, run: Path | None, minutes: float) -> Iterator[Subject]:
    path = pretrained(cache, data, minutes)
    corpus = texts(data)
    files = [cache / f"calibration-{i}.txt" for i in range(len(corpus.training))]
    for file, text in zip(files, corpus.training, strict=True):
        file.write_text(text, encoding="utf-8")
    yield Subject(
        "pretrained on wikitext-2, Hongloumeng and Alpaca", path, files, {language: [text] for language, text in corpus.held_out.items()}
    )
    if run is not None:
        lines = (run / "data/benchmark/text.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line)["text"] for line in lines]
        held_out = {"English": [row for row in rows if row.isascii()], "Chinese": [row for row in rows if not row.isascii()]}
        yield Subject("the run's RL model", run / "rl", [run / "data/sft.jsonl", run / "data/text.jsonl"], held_out)


@torch.no_grad()
def perplexity(model: PreTrainedModel, sequences: list[list[int]]) -> float:
    """Of each token but a sequence's first, given those before it."""
    total = 0.0
    for start in range(0, len(sequences), 16):
        batch = [torch.tensor(ids) for ids in sequences[start : start + 16]]
        ids = nn.utils.rnn.pad_sequence(batch, batch_first=True)
        targets = nn.utils.rnn.pad_sequence(batch, batch_first=True, padding_value=-100)[:, 1:]
        with fast_linear(ids.device, torch.float32):
            logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
        total += float(nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum"))
    return math.exp(total / sum(len(ids) - 1 for ids in sequences))


def rounded(path: Path, grid: Grid) -> PreTrainedModel:
    model = checkpoint.load_model(path)
    for block in find_blocks(model).modules:
        for layer in linear_layers(block).values():
            weight = layer.get_parameter("weight")
            weight.data = round_to_nearest(weight.data, grid).weight()
    return model


def by_gptq(subject: Subject, grid: Grid, samples: int, seed: int) -> PreTrainedModel:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "quantised"
        run_gptq(Settings(subject.path, out, grid, subject.calibration, samples, seed), say=lambda text: None)
        model = checkpoint.load_model(out, dtype=torch.float32)
    always_dequantise(model)
    return model


def cut(tokenizer: PreTrainedTokenizerBase, documents: list[str], tokens: int) -> list[list[int]]:
    """Documents as windows of at most 256 tokens, each behind the begin-of-sequence token, about *tokens* in all."""
    windows: list[list[int]] = []
    for text in documents:
        ids = tokenizer(text[: tokens * 8], add_special_tokens=False, verbose=False)["input_ids"]
        windows += [[tokenizer.bos_token_id, *ids[at : at + WINDOW - 1]] for at in range(0, len(ids), WINDOW - 1)]
        if sum(map(len, windows)) >= tokens:
            break
    return windows[: max(1, tokens // WINDOW)] if len(documents) == 1 else windows


def measure(subject: Subject, tokens: int, samples: int, seeds: int) -> None:
    tokenizer: PreTrainedTokenizerBase = checkpoint.load_tokenizer(subject.path)
    tests = {language: cut(tokenizer, documents, tokens) for language, documents in subject.held_out.items()}

    def both(model: PreTrainedModel) -> dict[str, float]:
        return {language: perplexity(model, ids) for language, ids in tests.items()}

    exact = both(checkpoint.load_model(subject.path))
    print(f"\n### {subject.name}\n\nfp32: " + ", ".join(f"{language} {value:.3f}" for language, value in exact.items()) + "\n")
    print("| bits | group | language | to nearest | " + " | ".join(ORDERS) + " | gap closed |")
    print("|---|---|---|---|" + "---|" * (len(ORDERS) + 1), flush=True)
    for bits in (3, 4):
        for group in GROUPS:
            nearest = both(rounded(subject.path, Grid(bits, group)))
            found = {
                name: [both(by_gptq(subject, Grid(bits, group, **order), samples, seed)) for seed in range(seeds)]
                for name, order in ORDERS.items()
            }
            for language in tests:
                cells, closed = [], []
                for draws in found.values():
                    values = [draw[language] for draw in draws]
                    cells.append(f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}")
                    closed.append(f"{(nearest[language] - statistics.mean(values)) / (nearest[language] - exact[language]):.0%}")
                print(
                    f"| {bits} | {group} | {language} | {nearest[language]:.3f} | {' | '.join(cells)} | {' · '.join(closed)} |", flush=True
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with wikitext-2, hongloumeng and stanford-alpaca")
    parser.add_argument("--cache", type=Path, required=True, help="where the pretrained model is kept")
    parser.add_argument("--run", type=Path, help="a run of the pocket recipe")
    parser.add_argument("--minutes", type=float, default=12, help="of pretraining, where the cache is empty")
    parser.add_argument("--tokens", type=int, default=16384, help="of held-out text per language")
    parser.add_argument("--samples", type=int, default=96)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    prepare_process()
    print(f"{set_threads()} threads, torch {torch.__version__}")
    for subject in subjects(given.data, given.cache, given.run, given.minutes):
        measure(subject, given.tokens, given.samples, given.seeds)


if __name__ == "__main__":
    main()
