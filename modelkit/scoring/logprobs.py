"""Exact log-probabilities of given tokens after given contexts, in fp32, shared beginnings computed once.

Takes token ids only: which letter is which token, or what belongs to an answer, is the caller's to know.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from typing import TYPE_CHECKING

import torch

from modelkit.scoring.prefix_tree import Ids
from modelkit.scoring.scorer import OnBatch, Scorer, Want

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Progress = Callable[[int], None]


def score_continuations(
    scorer: Scorer, contexts: Sequence[Ids], continuations: Sequence[Ids], on_batch: OnBatch, todo: Set[int] | None = None
) -> None:
    """Natural-log probability of every token of each continuation after its context (neither may be empty), batch by batch.

    :param todo: places of the pairs with something left to do; see :meth:`.Scorer.score`.
    """
    wants = []
    for context, continuation in zip(contexts, continuations, strict=True):
        first = len(context) - 1
        wants.append(Want([*context, *continuation[:-1]], range(first, first + len(continuation)), continuation))
    scorer.score(wants, on_batch, todo)


def continuation_logprobs(
    model: PreTrainedModel,
    contexts: Sequence[Ids],
    continuations: Sequence[Ids],
    token_budget: int | None = None,
    on_progress: Progress = lambda done: None,
) -> list[torch.Tensor]:
    """Natural-log probability of every token of each continuation after its context (neither may be empty).

    :param on_progress: told the number of pairs done.
    :returns: one fp32 tensor per pair, [length of the continuation].
    """
    result: list[torch.Tensor] = [torch.empty(0)] * len(contexts)
    done = 0

    def collect(pairs: list[int], found: list[torch.Tensor]) -> None:
        nonlocal done
        for i, logprobs in zip(pairs, found, strict=True):
            result[i] = logprobs
        done += len(pairs)
        on_progress(done)

    score_continuations(Scorer(model, token_budget), contexts, continuations, collect)
    return result
