"""Many prompts to the end, synchronously: what trainers and evalkit call. Keeps nothing between calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from modelkit.generation.batch import Batch
from modelkit.generation.sampling import Sampling
from modelkit.generation.sequences import Finish

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass
class Completion:
    """One sample: its token ids (the stop token included), their log-probabilities, and why it ended."""

    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish: Finish = "length"


def generate(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling | Sequence[Sampling],
    stop: Sequence[int],
    n: int = 1,
    max_rows: int = 64,
    cancelled: Callable[[], bool] = lambda: False,
    on_progress: Callable[[int], None] = lambda finished: None,
    ended: Callable[[int, int, int], bool] = lambda prompt, sample, token: False,
) -> list[list[Completion]]:
    """Sample *n* completions of each prompt, at most *max_rows* (or *n*, if that is more) at a time.

    Prompts go in longest first (memory trouble shows at once); new ones join, several at a time, as others finish.

    :param prompts: token ids, none empty.
    :param sampling: one for all prompts, or one per prompt.
    :param stop: token ids that end a completion.
    :param cancelled: asked before every step; once true, unfinished rows end as ``cancelled``.
    :param on_progress: told the number of completions finished so far.
    :param ended: told prompt, sample and token id of whatever is written; true ends the completion there, as ``stop``.
    :returns: ``result[prompt][sample]``.
    :raises UserError: when a prompt leaves no room for an answer in the model's context.
    """
    settings = [sampling] * len(prompts) if isinstance(sampling, Sampling) else list(sampling)
    result = [[Completion(finish="cancelled") for _ in range(n)] for _ in prompts]
    max_rows = max(max_rows, n)
    batch = Batch(model, max_rows)
    todo = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), -i))
    owners: dict[int, int] = {}
    finished = 0
    while todo or batch.busy:
        if cancelled():
            break
        if batch.live <= max_rows * 3 // 4:
            for _ in range(min(len(todo), (max_rows - batch.live) // n)):
                i = todo.pop()
                owners[batch.add(prompts[i], settings[i], stop, n)] = i
        before = finished
        for token in batch.step():
            completion = result[owners[token.key]][token.sample]
            completion.ids.append(token.id)
            completion.logprobs.append(token.logprob)
            if token.finish:
                completion.finish = token.finish
                finished += 1
            elif ended(owners[token.key], token.sample, token.id):
                batch.drop(token.key, token.sample)
                completion.finish = "stop"
                finished += 1
        if finished > before:
            on_progress(finished)
    return result
