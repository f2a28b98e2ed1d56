"""What quantising costs: perplexity and divergence on held-out English and Chinese, rounded to nearest and by GPTQ.

    python -m benchmarks.gptq_quality --data ../shared/data --cache ~/.cache/gptq
    python -m benchmarks.gptq_quality --run runs/pocket --cache ~/.cache/gptq

On trained weights: those of a model that this script pretrains (``pretrained.py``), or a run's RL model on conversations it has not
seen. GPTQ runs plainly and with act-order, on several draws of calibration data. The bars: at 3 bits GPTQ closes at least half of the
gap that rounding to nearest leaves; at 4 bits its mean is not worse than rounding to nearest by more than the draws' spread.

Perplexity of so few tokens is a coarse measure of small changes: a random change of the weights raises the probability of some tokens and
lowers that of others. The divergence KL(fp32 ‖ quantised), over whole distributions, has no such luck, and is shown beside it.

Every measurement is kept in the cache, so a killed script goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from benchmarks.pretrained import pretrained, texts
from modelkit import checkpoint
from modelkit.chat import encode_chat
from modelkit.device import prepare_process, set_threads
from modelkit.fingerprint import fingerprint
from modelkit.gptq.layer import always_dequantise
from modelkit.linear import fast_linear
from trainers.data.formats import load
from trainers.gptq.blocks import find_blocks, linear_layers
from trainers.gptq.run import Settings
from trainers.gptq.run import run as run_gptq
from trainers.gptq.solver import Grid, round_to_nearest

WINDOW, BATCH = 256, 16
ORDERS = {"GPTQ": {}, "act-order": {"act_order": True}}


class Passage(NamedTuple):
    """At most ``WINDOW`` tokens, and which of them count: those that the model was trained to write."""

    ids: list[int]
    counts: list[bool]


Held = dict[str, list[Passage]]
"""Held-out passages by language."""


class Quality(NamedTuple):
    """Per token that counts: natural-log loss, and divergence from the unquantised model, in nats."""

    loss: float
    divergence: float


@dataclass(frozen=True)
class Subject:
    """A checkpoint, what to calibrate it on, and held-out tokens."""

    name: str
    path: Path
    calibration: list[Path]
    held_out: Held


def of_texts(data: Path, cache: Path, steps: int, tokens: int) -> Subject:
    """The model pretrained on the texts in *data*."""
    path = pretrained(cache, data, steps)
    tokenizer = checkpoint.load_tokenizer(path)
    corpus = texts(data)
    files = [cache / f"calibration-{i}.txt" for i in range(len(corpus.training))]
    for file, text in zip(files, corpus.training, strict=True):
        file.write_text(text, encoding="utf-8")
    held_out = {language: windows(tokenizer, text, tokens) for language, text in corpus.held_out.items()}
    return Subject("pretrained on wikitext-2, Hongloumeng and Alpaca", path, files, held_out)


def windows(tokenizer: PreTrainedTokenizerBase, text: str, tokens: int) -> list[Passage]:
    """The beginning of *text* in windows, each behind the begin-of-sequence token."""
    ids = tokenizer(text[: tokens * 8], add_special_tokens=False, verbose=False)["input_ids"]
    starts = range(0, len(ids) - WINDOW, WINDOW - 1)[: tokens // WINDOW]
    return [Passage([tokenizer.bos_token_id, *ids[at : at + WINDOW - 1]], [False] + [True] * (WINDOW - 1)) for at in starts]


def of_run(run: Path, tokens: int) -> Subject:
    """A run's RL model, on the answers in held-out conversations that end in the chosen one."""
    tokenizer = checkpoint.load_tokenizer(run / "rl")
    held_out: Held = {"English": [], "Chinese": []}
    for row in load(run / "data/benchmark/pairs.jsonl", "preference").rows:
        messages = [*row["messages"], {"role": "assistant", "content": row["chosen"]}]
        passages = held_out["English" if row["chosen"].isascii() else "Chinese"]
        if size(passages) < tokens:
            encoded = encode_chat(tokenizer, messages)
            passages.append(Passage(encoded.ids[:WINDOW], encoded.assistant[:WINDOW]))
    return Subject("the run's RL model", run / "rl", [run / "data/sft.jsonl", run / "data/text.jsonl"], held_out)


def size(passages: list[Passage]) -> int:
    """How many tokens count."""
    return sum(sum(passage.counts) for passage in passages)


class Meter:
    """Measures models beside the unquantised one."""

    def __init__(self, subject: Subject) -> None:
        self._exact, self._held_out = checkpoint.load_model(subject.path), subject.held_out

    def __call__(self, model: PreTrainedModel) -> dict[str, Quality]:
        return {language: self._quality(model, passages) for language, passages in self._held_out.items()}

    @torch.no_grad()
    def _quality(self, model: PreTrainedModel, passages: list[Passage]) -> Quality:
        loss = divergence = 0.0
        for start in range(0, len(passages), BATCH):
            batch = passages[start : start + BATCH]
            ids, counts = (nn.utils.rnn.pad_sequence(list(map(torch.tensor, side)), batch_first=True) for side in zip(*batch, strict=True))
            wanted = counts[:, 1:]
            found, exact = self._logprobs(model, ids)[wanted], self._logprobs(self._exact, ids)[wanted]
            loss -= float(found.gather(-1, ids[:, 1:][wanted][:, None]).sum())
            divergence += float((exact.exp() * (exact - found)).sum())
        return Quality(loss / size(passages), divergence / size(passages))

    def _logprobs(self, model: PreTrainedModel, ids: Tensor) -> Tensor:
        with fast_linear(ids.device, torch.float32):
            return model(input_ids=ids, use_cache=False).logits[:, :-1].log_softmax(-1)


def rounded(path: Path, grid: Grid) -> PreTrainedModel:
    """The checkpoint with every weight rounded to nearest."""
    model = checkpoint.load_model(path)
    for block in find_blocks(model).modules:
        for layer in linear_layers(block).values():
            weight = layer.get_parameter("weight")
            weight.data = round_to_nearest(weight.data, grid).weight()
    return model


def by_gptq(subject: Subject, grid: Grid, samples: int, seed: int) -> PreTrainedModel:
    """The checkpoint as ``trainers gptq`` writes it."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "quantised"
        run_gptq(Settings(subject.path, out, grid, subject.calibration, samples, seed), say=lambda text: None)
        model = checkpoint.load_model(out, dtype=torch.float32)
    always_dequantise(model)
    return model


class Journal:
    """Measurements of a subject, in a file of the cache; what is there isn't measured again."""

    def __init__(self, cache: Path, subject: Subject, samples: int) -> None:
        digest = fingerprint(subject.path).removeprefix("sha256:")[:12]
        self._file = cache / f"quality-{digest}-{samples}-{size(subject.held_out['English'])}.jsonl"
        self._subject, self._samples, self._meter = subject, samples, Meter(subject)
        lines = self._file.read_text(encoding="utf-8").splitlines() if self._file.exists() else []
        self._known = {key: {language: Quality(*value) for language, value in found.items()} for key, found in map(json.loads, lines)}

    def exact(self) -> dict[str, Quality]:
        """The unquantised model."""
        return self._of("fp32", lambda: checkpoint.load_model(self._subject.path))

    def nearest(self, grid: Grid) -> dict[str, Quality]:
        """Every weight rounded to nearest."""
        return self._of(f"nearest {grid}", lambda: rounded(self._subject.path, grid))

    def gptq(self, grid: Grid, seed: int) -> dict[str, Quality]:
        """GPTQ on one draw of calibration data."""
        return self._of(f"gptq {grid} {seed}", lambda: by_gptq(self._subject, grid, self._samples, seed))

    def _of(self, key: str, make: Callable[[], PreTrainedModel]) -> dict[str, Quality]:
        if key not in self._known:
            self._known[key] = self._meter(make())
            with self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps([key, self._known[key]]) + "\n")
        return self._known[key]


def measure(subject: Subject, journal: Journal, groups: list[int], seeds: int) -> None:
    """Print the table of one subject."""
    exact = journal.exact()
    counts = ", ".join(
        f"{language} {math.exp(exact[language].loss):.3f} ({size(passages):,} tokens)" for language, passages in subject.held_out.items()
    )
    print(f"\n### {subject.name}\n\nPerplexity in fp32: {counts}\n")
    print("| bits | group | language | to nearest | " + " | ".join(ORDERS) + " | gap closed | divergence, mnat | of it removed |")
    print("|---|---|---|---|" + "---|" * (len(ORDERS) + 3), flush=True)
    for bits in (3, 4):
        for group in groups:
            nearest = journal.nearest(Grid(bits, group))
            draws = {name: [journal.gptq(Grid(bits, group, **order), seed) for seed in range(seeds)] for name, order in ORDERS.items()}
            for language in subject.held_out:
                print(row(bits, group, language, exact[language], nearest[language], [[d[language] for d in ds] for ds in draws.values()]))


def row(bits: int, group: int, language: str, exact: Quality, nearest: Quality, orders: list[list[Quality]]) -> str:
    """A line of the table; the shares of gaps are those of the mean over draws, per order."""
    perplexities = [[math.exp(draw.loss) for draw in draws] for draws in orders]
    gap = math.exp(nearest.loss) - math.exp(exact.loss)
    closed = [f"{(math.exp(nearest.loss) - statistics.mean(values)) / gap:.0%}" if gap > 0 else "–" for values in perplexities]
    divergences = [statistics.mean(draw.divergence for draw in draws) for draws in orders]
    cells = [
        *(str(cell) for cell in (bits, group, language)),
        f"{math.exp(nearest.loss):.3f}",
        *(f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}" for values in perplexities),
        " · ".join(closed),
        " · ".join(f"{value * 1e3:.2f}" for value in (nearest.divergence, *divergences)),
        " · ".join(f"{1 - value / nearest.divergence:.0%}" for value in divergences),
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with wikitext-2, hongloumeng and stanford-alpaca, to pretrain a model on")
    parser.add_argument("--run", type=Path, help="a run, whose RL model to measure instead")
    parser.add_argument("--cache", type=Path, required=True, help="where the pretrained model and the measurements are kept")
    parser.add_argument("--steps", type=int, default=900, help="of pretraining, where the cache has no model")
    parser.add_argument("--tokens", type=int, default=16384, help="of held-out text per language")
    parser.add_argument("--samples", type=int, default=96, help="calibration sequences")
    parser.add_argument("--groups", type=int, nargs="+", default=[128, 64, 32])
    parser.add_argument("--seeds", type=int, default=3, help="draws of calibration data, at least 2")
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    print(f"{set_threads(given.threads)} threads, torch {torch.__version__}, {given.samples} calibration sequences, {given.seeds} draws")
    given.cache.mkdir(parents=True, exist_ok=True)
    subject = of_run(given.run, given.tokens) if given.run else of_texts(given.data, given.cache, given.steps, given.tokens)
    measure(subject, Journal(given.cache, subject, given.samples), given.groups, given.seeds)


if __name__ == "__main__":
    prepare_process()
    main()
