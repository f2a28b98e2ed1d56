"""Rollouts: sample replies, and everything about them that stays fixed while the policy is updated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from modelkit.generation.loop import generate
from modelkit.generation.sampling import Sampling
from modelkit.reward import last_token_values, token_values
from modelkit.scoring.batches import right_pad
from modelkit.scoring.logits import logits_at
from trainers.data.order import microbatches

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass
class Replies:
    """Sampled replies. ``mask`` is [replies, longest reply]: 1 on a reply's tokens, its stop token included."""

    sequences: list[list[int]]
    prompt_lengths: list[int]
    stopped: Tensor
    mask: Tensor

    @property
    def lengths(self) -> list[int]:
        """Tokens of each whole sequence, prompt included."""
        return [len(sequence) for sequence in self.sequences]


def sample(model: PreTrainedModel, prompts: Sequence[Sequence[int]], sampling: Sequence[Sampling], stop: Sequence[int]) -> Replies:
    """One sampled reply per prompt."""
    completions = [samples[0] for samples in generate(model, prompts, sampling, stop)]
    sequences = [[*prompt, *completion.ids] for prompt, completion in zip(prompts, completions, strict=True)]
    mask = right_pad([[1] * len(completion.ids) for completion in completions]).float()
    stopped = torch.tensor([completion.finish == "stop" for completion in completions])
    return Replies(sequences, [len(prompt) for prompt in prompts], stopped, mask)


def reply_logprobs(model: PreTrainedModel, replies: Replies, rows: Sequence[int], temperature: float) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the reply tokens of some rows under *model* at *temperature*, and the entropy there.

    Logits are divided by the temperature wherever a policy is evaluated, since that is the distribution sampled from.

    :returns: two [rows, longest reply] tensors, 0 outside the mask; differentiable (the entropy is not).
    """
    ids = right_pad([replies.sequences[i] for i in rows], model.device)
    mask = replies.mask[list(rows)]
    at_row, at_token = mask.nonzero(as_tuple=True)
    starts = torch.tensor([replies.prompt_lengths[i] for i in rows])
    columns = starts[at_row] + at_token
    logprobs = (logits_at(model, ids, at_row, columns - 1) / temperature).log_softmax(-1)
    chosen = logprobs.gather(1, ids[at_row, columns][:, None])[:, 0]
    with torch.no_grad():
        entropy = -(logprobs.exp() * logprobs).sum(-1)
    return _scatter(chosen, mask), _scatter(entropy, mask)


def reply_values(critic: PreTrainedModel, replies: Replies, rows: Sequence[int]) -> Tensor:
    """V(s_t) before each reply token was chosen, [rows, longest reply], 0 outside the mask; differentiable."""
    values = token_values(critic, right_pad([replies.sequences[i] for i in rows], critic.device))
    mask = replies.mask[list(rows)]
    at_row, at_token = mask.nonzero(as_tuple=True)
    starts = torch.tensor([replies.prompt_lengths[i] for i in rows])
    return _scatter(values[at_row, starts[at_row] + at_token - 1], mask)


@torch.no_grad()
def in_batches(function, replies: Replies, micro_tokens: int) -> Tensor:
    """Apply ``function(rows) -> [rows, longest reply]`` to all rows in length-grouped batches, without gradients."""
    result = torch.zeros_like(replies.mask)
    for rows in microbatches(range(len(replies.sequences)), replies.lengths, micro_tokens):
        result[rows] = function(rows)
    return result


@torch.no_grad()
def rewards_of(model: PreTrainedModel, replies: Replies, micro_tokens: int) -> Tensor:
    """The reward model's score of each whole sequence, [replies]."""
    result = torch.zeros(len(replies.sequences))
    for rows in microbatches(range(len(replies.sequences)), replies.lengths, micro_tokens):
        result[rows] = last_token_values(model, [replies.sequences[i] for i in rows])
    return result


def _scatter(values: Tensor, mask: Tensor) -> Tensor:
    """Put a flat tensor of values back where the mask is 1 (row by row)."""
    result = values.new_zeros(mask.shape)
    result[mask.bool()] = values
    return result
