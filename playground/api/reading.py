"""What a model thinks of a prompt's own tokens: the ``echo`` that evaluation harnesses ask for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from modelkit.generation.requests import Sample
from modelkit.scoring.forward import Likeliest
from modelkit.scoring.scorer import Want
from playground.models import Loaded


def read_prompts(loaded: Loaded, prompts: Sequence[Sequence[int]], top: int, between: Callable[[], None]) -> list[tuple[Sample, Likeliest]]:
    """Each prompt's tokens with their natural-log probabilities (the first one's is NaN) and the *top* likeliest in their place, and the
    likeliest tokens after the prompt (at least one).

    Runs on the model's own thread. What prompts begin with in common is computed once, and between two batches the engine takes a
    step, so that those who are being answered wait for no more than one.

    :param between: called after each batch; what it raises ends the work.
    """
    samples = [Sample(ids=list(ids), logprobs=[math.nan], tops=[()]) for ids in prompts]
    likeliest: list[list[Likeliest]] = [[[] for _ in ids] for ids in prompts]

    def told(prompt: int, slot: int, found: Likeliest) -> None:
        likeliest[prompt][slot] = found

    def read(done: list[int], found: list[torch.Tensor]) -> None:
        for i, logprobs in zip(done, found, strict=True):
            samples[i].logprobs += logprobs[:-1].tolist()
        between()
        if loaded.engine.busy:
            loaded.engine.step()

    # what follows the last token is unknown: its slot is read for the likeliest tokens alone
    wants = [Want(ids, range(len(ids)), [*ids[1:], 0], max(1, top)) for ids in prompts]
    loaded.scorer.score(wants, read, on_likeliest=told)
    for sample, found in zip(samples, likeliest, strict=True):
        sample.tops += [tuple(pairs[:top]) for pairs in found[:-1]]
    return [(sample, found[-1]) for sample, found in zip(samples, likeliest, strict=True)]
