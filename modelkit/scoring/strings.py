"""The probability of a few short token strings after each of many prompts, in one pass where that is possible."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from modelkit.scoring.batches import by_length, right_pad
from modelkit.scoring.logprobs import logits_at

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Prefix = tuple[int, ...]


def passes(strings: Sequence[Sequence[int]]) -> list[list[Prefix]]:
    """The beginnings after which some string goes on, grouped so that each group is read off one sequence.

    When every string is a single token there is one group, ``[()]``. Strings such as ``[7, 1]``, ``[7, 2]`` and ``[3]`` need
    the model's opinion after ``()`` and after ``(7,)``; one pass over prompt + ``(7,)`` gives both.
    """
    prefixes = sorted({tuple(string[:end]) for string in strings for end in range(len(string))})
    groups: list[list[Prefix]] = []
    seen: set[Prefix] = set()
    for leaf in prefixes:
        if not any(len(other) > len(leaf) and other[: len(leaf)] == leaf for other in prefixes):
            groups.append([prefix for prefix in prefixes if leaf[: len(prefix)] == prefix and prefix not in seen])
            seen.update(groups[-1])
    return groups


@torch.inference_mode()
def string_logprobs(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    strings: Sequence[Sequence[int]],
    token_budget: int = 8192,
    on_progress: Callable[[int], None] = lambda done: None,
) -> torch.Tensor:
    """Natural-log probability, over the full vocabulary, that each of *strings* (none empty) follows each prompt.

    :param on_progress: told the number of prompts done.
    :returns: fp32, [prompts, strings].
    """
    total = torch.zeros(len(prompts), len(strings))
    groups = passes(strings)
    for turn, group in enumerate(groups):
        leaf = group[-1]
        parts = [
            (point, i, string[len(prefix)])
            for point, prefix in enumerate(group)
            for i, string in enumerate(strings)
            if _goes_on(string, prefix)
        ]
        point, member, token = (torch.tensor(column) for column in zip(*parts, strict=True))
        done = 0
        for batch in by_length([len(prompt) + len(leaf) for prompt in prompts], token_budget):
            ids = right_pad([[*prompts[i], *leaf] for i in batch], model.device)
            rows = torch.arange(len(batch)).repeat_interleave(len(group))
            columns = torch.tensor([len(prompts[i]) - 1 + len(prefix) for i in batch for prefix in group])
            logprobs = logits_at(model, ids, rows, columns).log_softmax(-1).cpu().view(len(batch), len(group), -1)
            total[batch] = total[batch].index_add(1, member, logprobs[:, point, token])
            done += len(batch)
            on_progress((turn * len(prompts) + done) // len(groups))
    return total


def _goes_on(string: Sequence[int], prefix: Prefix) -> bool:
    return len(string) > len(prefix) and tuple(string[: len(prefix)]) == prefix
