"""The synchronous batched generation loop: many prompts, n samples of each, one decode step for all of them at a time.

n samples of a prompt share its prefill, rows that have finished are compacted out of the batch, and each row draws its own
random numbers. It works on any ``transformers`` causal language model and keeps nothing between calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch

from modelkit.errors import UserError
from modelkit.generation.sampling import Sampling, choose, uniforms

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Finish = Literal["stop", "length", "cancelled"]


@dataclass
class Completion:
    """One sample: its token ids (the stop token included), their log-probabilities, and why it ended."""

    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish: Finish = "length"


@dataclass(frozen=True)
class Token:
    """One step of one row. ``finish`` is set on its last token."""

    prompt: int
    sample: int
    id: int
    logprob: float
    finish: Finish | None


def generate(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling | Sequence[Sampling],
    stop: Sequence[int],
    n: int = 1,
    max_rows: int = 64,
    cancelled: Callable[[], bool] = lambda: False,
    on_progress: Callable[[int], None] = lambda finished: None,
) -> list[list[Completion]]:
    """Sample *n* completions of each prompt, in batches of at most *max_rows* rows of similar length.

    :param prompts: token ids, none empty.
    :param sampling: one for all prompts, or one per prompt.
    :param stop: token ids that end a completion.
    :param cancelled: asked before every step; once true, unfinished rows end as ``cancelled``.
    :param on_progress: told the number of completions finished so far.
    :returns: ``result[prompt][sample]``.
    :raises UserError: when a prompt leaves no room for an answer in the model's context.
    """
    settings = [sampling] * len(prompts) if isinstance(sampling, Sampling) else list(sampling)
    result = [[Completion(finish="cancelled") for _ in range(n)] for _ in prompts]
    finished = 0
    for batch in _batches(prompts, settings, max(1, max_rows // n)):
        for token in stream(model, [prompts[i] for i in batch], [settings[i] for i in batch], stop, n, cancelled):
            completion = result[batch[token.prompt]][token.sample]
            completion.ids.append(token.id)
            completion.logprobs.append(token.logprob)
            if token.finish:
                completion.finish = token.finish
                finished += 1
        on_progress(finished)
        if cancelled():
            break
    return result


@torch.inference_mode()
def stream(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    sampling: Sequence[Sampling],
    stop: Sequence[int],
    n: int = 1,
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[Token]:
    """Yield the tokens of one batch as they are chosen. See :func:`generate`; all prompts run at once here.

    Closing the iterator (or *cancelled* turning true) ends the work within one step.
    """
    from transformers import DynamicCache

    device = model.device
    limit = getattr(model.config, "max_position_embeddings", None)
    lengths = [len(prompt) for prompt in prompts]
    for i, length in enumerate(lengths):
        if length == 0 or (limit and length >= limit):
            raise UserError(
                f"prompt {i} has {length} tokens, but it must have at least 1 and leave room in the model's context of {limit}."
            )
    width = max(lengths)
    ids = torch.zeros(len(prompts), width, dtype=torch.long)
    mask = torch.zeros(len(prompts), width, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    ids, mask = ids.to(device), mask.to(device)
    padded = bool((mask == 0).any())

    cache = DynamicCache(config=model.config)
    output = model(
        input_ids=ids,
        attention_mask=mask if padded else None,
        position_ids=(mask.cumsum(-1) - 1).clamp(min=0) if padded else None,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    logits = output.logits[:, -1]
    rows = [(prompt, sample) for prompt in range(len(prompts)) for sample in range(n)]
    if n > 1:
        repeat = torch.tensor([prompt for prompt, _ in rows], device=device)
        cache.batch_select_indices(repeat)
        logits, mask = logits[repeat], mask[repeat]
    budget = [min(sampling[p].max_tokens, limit - lengths[p]) if limit else sampling[p].max_tokens for p, _ in rows]
    noise = torch.stack(
        [torch.nn.functional.pad(uniforms(sampling[p].seed + s, budget[r]), (0, max(budget) - budget[r])) for r, (p, s) in enumerate(rows)]
    )
    positions = torch.tensor([lengths[p] for p, _ in rows], device=device)
    stops = set(stop)

    for step in range(max(budget)):
        if cancelled():
            return
        tokens, logprobs = _choose_rows(logits, noise[:, step], [sampling[p] for p, _ in rows])
        keep: list[int] = []
        chosen, chances = tokens.tolist(), logprobs.tolist()
        for row, (prompt_index, sample) in enumerate(rows):
            finish: Finish | None = "stop" if chosen[row] in stops else "length" if step + 1 == budget[row] else None
            if finish is None:
                keep.append(row)
            yield Token(prompt_index, sample, chosen[row], chances[row], finish)
        if not keep:
            return
        if len(keep) < len(rows):
            index = torch.tensor(keep, device=device)
            cache.batch_select_indices(index)
            tokens, mask, positions, noise = tokens[index], mask[index], positions[index], noise[index.cpu()]
            rows, budget = [rows[i] for i in keep], [budget[i] for i in keep]
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
        still_padded = padded and bool((mask == 0).any())
        logits = model(
            input_ids=tokens[:, None],
            attention_mask=mask if still_padded else None,
            position_ids=positions[:, None],
            past_key_values=cache,
            use_cache=True,
        ).logits[:, -1]
        positions = positions + 1


def _choose_rows(logits: torch.Tensor, uniform: torch.Tensor, sampling: list[Sampling]) -> tuple[torch.Tensor, torch.Tensor]:
    """Choose for every row, grouping rows whose settings (apart from seed and length) agree."""
    groups: dict[tuple[float, int, float], list[int]] = {}
    for row, setting in enumerate(sampling):
        groups.setdefault((setting.temperature, setting.top_k, setting.top_p), []).append(row)
    if len(groups) == 1:
        return choose(logits, uniform, sampling[0])
    tokens = torch.empty(len(sampling), dtype=torch.long, device=logits.device)
    logprobs = torch.empty(len(sampling), device=logits.device)
    for members in groups.values():
        index = torch.tensor(members, device=logits.device)
        tokens[index], logprobs[index] = choose(logits[index], uniform[index.cpu()], sampling[members[0]])
    return tokens, logprobs


def _batches(prompts: Sequence[Sequence[int]], sampling: list[Sampling], size: int) -> Iterator[list[int]]:
    """Prompts grouped so that a batch has similar lengths, the longest first (memory trouble shows at once)."""
    order = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), i))
    for start in range(0, len(order), size):
        yield order[start : start + size]
