"""The probability of a few short token strings after each of many prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from typing import TYPE_CHECKING

import torch

from modelkit.scoring.prefix_tree import Ids
from modelkit.scoring.scorer import Scorer, Want

if TYPE_CHECKING:
    from transformers import PreTrainedModel

OnStrings = Callable[[list[int], torch.Tensor], None]
"""Told the indices of finished prompts, and [prompts, strings] log-probabilities. Batches come in any order."""


def score_strings(
    scorer: Scorer, prompts: Sequence[Ids], strings: Sequence[Ids], on_batch: OnStrings, todo: Set[int] | None = None
) -> None:
    """Natural-log probability, over the full vocabulary, that each of *strings* (none empty) follows each prompt, batch by batch.

    Strings that differ in their last token only – all letters of one token, say – are read off one sequence. What the others
    share, with one another or with the prompt alone, is computed once, since they have it in common from the beginning.

    :param todo: places of the prompts with something left to do; see :meth:`.Scorer.score`.
    """
    tails: dict[tuple[int, ...], list[int]] = {}
    for number, string in enumerate(strings):
        tails.setdefault(tuple(string[:-1]), []).append(number)
    groups = list(tails.items())
    total = torch.zeros(len(prompts), len(strings))
    missing = [len(groups)] * len(prompts)
    wants = []
    for prompt in prompts:
        for tail, members in groups:
            positions = [len(prompt) - 1 + offset for _ in members for offset in range(len(tail) + 1)]
            wants.append(Want([*prompt, *tail], positions, [token for number in members for token in strings[number]]))

    def add(batch: list[int], found: list[torch.Tensor]) -> None:
        done = []
        for i, logprobs in zip(batch, found, strict=True):
            prompt, group = divmod(i, len(groups))
            tail, members = groups[group]
            total[prompt, members] = logprobs.view(len(members), len(tail) + 1).sum(1)
            missing[prompt] -= 1
            if not missing[prompt]:
                done.append(prompt)
        if done:
            on_batch(done, total[done])

    scorer.score(wants, add, None if todo is None else {prompt * len(groups) + group for prompt in todo for group in range(len(groups))})


def string_logprobs(
    model: PreTrainedModel,
    prompts: Sequence[Ids],
    strings: Sequence[Ids],
    token_budget: int | None = None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> torch.Tensor:
    """Natural-log probability, over the full vocabulary, that each of *strings* (none empty) follows each prompt.

    :param on_progress: told the number of prompts done.
    :returns: fp32, [prompts, strings].
    """
    result = torch.zeros(len(prompts), len(strings))
    done = 0

    def collect(batch: list[int], found: torch.Tensor) -> None:
        nonlocal done
        result[batch] = found
        done += len(batch)
        on_progress(done)

    score_strings(Scorer(model, token_budget), prompts, strings, collect)
    return result
