"""Scoring with shared beginnings beside scoring without, on random weights and random few-shot prompts: needs no data and no peer.

    python benchmarks/evalkit_vs_lm_eval.py --synthetic

On a CUDA device a LLaMA shape of 1.1 billion parameters in bf16, elsewhere the benchmark's own small one in fp32. "As a harness"
means what harnesses do: batches of eight whole prompts, logits and log-softmax at every position.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from modelkit.scoring.batches import by_length, right_pad
from modelkit.scoring.scorer import Scorer
from modelkit.scoring.strings import score_strings

LARGE = {
    "vocab_size": 32000,
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 22,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "max_position_embeddings": 4096,
}
LETTERS = [[319], [350], [315], [360]]


def prompts(subjects: int, questions: int, seed: int = 0) -> list[list[int]]:
    """Prompts as long as MMLU's with five shots: a beginning of 300 to 600 tokens for each subject, questions of 40 to 120."""
    rng = random.Random(seed)

    def words(shortest: int, longest: int) -> list[int]:
        return [rng.randrange(3, 32000) for _ in range(rng.randint(shortest, longest))]

    return [shots + words(40, 120) for shots in (words(300, 600) for _ in range(subjects)) for _ in range(questions)]


@torch.inference_mode()
def as_a_harness(model: Any, asked: Sequence[Sequence[int]], rows: int = 8) -> torch.Tensor:
    """Log-probabilities of the letters, [prompts, letters], from batches of whole prompts."""
    found = torch.zeros(len(asked), len(LETTERS))
    longest_first = [i for batch in by_length([len(prompt) for prompt in asked], 1) for i in batch]
    for start in range(0, len(asked), rows):
        batch = longest_first[start : start + rows]
        logprobs = model(input_ids=right_pad([asked[i] for i in batch], model.device)).logits.float().log_softmax(-1)
        for row, i in enumerate(batch):
            found[i] = logprobs[row, len(asked[i]) - 1, [letter for (letter,) in LETTERS]].cpu()
    return found


def by_scorer(scorer: Scorer, asked: Sequence[Sequence[int]]) -> torch.Tensor:
    """The same by :class:`modelkit.scoring.scorer.Scorer`."""
    found = torch.zeros(len(asked), len(LETTERS))
    score_strings(scorer, asked, LETTERS, lambda batch, logprobs: found.__setitem__(batch, logprobs))
    return found


def timed(compute: Callable[[], torch.Tensor]) -> tuple[float, torch.Tensor]:
    """Seconds, and the result; results are on the CPU, so nothing is still under way when they are there."""
    start = time.perf_counter()
    found = compute()
    return time.perf_counter() - start, found


def main(small: dict[str, Any], subjects: int = 4, questions: int = 140, repeat: int = 3) -> None:
    """Print the table."""
    cuda = torch.cuda.is_available()
    device, dtype = torch.device("cuda" if cuda else "cpu"), torch.bfloat16 if cuda else torch.float32
    torch.manual_seed(0)
    model: Any = LlamaForCausalLM(LlamaConfig(**(LARGE if cuda else small)))
    model = model.to(dtype).to(device).eval()
    scorer = Scorer(model)
    few = prompts(1, 8, seed=1)
    by_scorer(scorer, few), as_a_harness(model, few)  # warm-up
    asked = prompts(subjects, questions)
    before = scorer.tokens_computed, scorer.flops
    runs = [(timed(lambda: by_scorer(scorer, asked)), timed(lambda: as_a_harness(model, asked))) for _ in range(repeat)]
    computed, flops = ((now - old) / repeat for now, old in zip((scorer.tokens_computed, scorer.flops), before, strict=True))
    ours, harness = sorted(runs, key=lambda run: run[1][0] / run[0][0])[repeat // 2]
    wanted = sum(map(len, asked))
    name = torch.cuda.get_device_name() if cuda else "CPU"
    off = float((ours[1] - harness[1]).abs().max())
    differ = int((ours[1].argmax(1) != harness[1].argmax(1)).sum())
    print(f"{name}, {model.num_parameters() / 1e6:,.0f} M parameters, {dtype}, torch {torch.__version__}")
    print(f"{len(asked)} prompts, {wanted:,} tokens, of which {computed:,.0f} had to be computed; {scorer.sharing}; median of {repeat}")
    print(
        f"shared beginnings {ours[0]:8.2f} s {len(asked) / ours[0]:10.1f} questions/s {flops / ours[0] / 1e12:8.2f} TFLOP/s of needed work"
    )
    print(f"as a harness      {harness[0]:8.2f} s {len(asked) / harness[0]:10.1f} questions/s, ratio {harness[0] / ours[0]:.1f}×")
    print(f"largest difference of log p {off:.1e}, different predictions {differ}")
