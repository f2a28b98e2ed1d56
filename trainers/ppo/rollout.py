"""Rollouts: sample replies, and evaluate them under the models in length-grouped batches, on any number of ranks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from modelkit.generation.loop import generate
from modelkit.generation.sampling import Sampling
from modelkit.reward import last_token_values, token_values
from modelkit.scoring.batches import right_pad
from modelkit.scoring.logits import logits_at
from trainers.strategies import Strategy, turns
from trainers.strategies.plain import Single

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

    def said(self, row: int) -> list[int]:
        """The reply's own tokens."""
        return self.sequences[row][self.prompt_lengths[row] :]


def sample(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    sampling: Sequence[Sampling],
    stop: Sequence[int],
    n: int = 1,
    strategy: Strategy | None = None,
) -> Replies:
    """*n* sampled replies per prompt, those of one prompt beside each other. Ranks share the prompts and then know all replies."""
    strategy = strategy or Single(model.device)
    mine = strategy.share(range(len(prompts)), [len(prompt) for prompt in prompts])
    written = torch.zeros(len(prompts) * n, max(settings.max_tokens for settings in sampling), dtype=torch.long)
    stopped = torch.zeros(len(prompts) * n, dtype=torch.long)
    with strategy.whole(model):
        completions = generate(model, [prompts[i] for i in mine], [sampling[i] for i in mine], stop, n) if mine else []
    for i, samples in zip(mine, completions, strict=True):
        for row, completion in enumerate(samples, start=i * n):
            written[row, : len(completion.ids)] = torch.tensor(completion.ids) + 1
            stopped[row] = completion.finish == "stop"
    written, stopped = strategy.combine(written.to(strategy.device)), strategy.combine(stopped.to(strategy.device))
    lengths = (written > 0).sum(1).tolist()
    said = [[token - 1 for token in row[:length]] for row, length in zip(written.tolist(), lengths, strict=True)]
    sequences = [[*prompts[row // n], *reply] for row, reply in enumerate(said)]
    mask = (written[:, : max(lengths)] > 0).float()
    return Replies(sequences, [len(prompts[row // n]) for row in range(len(said))], stopped.bool(), mask)


def reply_logprobs(model: PreTrainedModel, replies: Replies, rows: Sequence[int], temperature: float) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the reply tokens of some rows under *model* at *temperature*, and the entropy there.

    Logits are divided by the temperature wherever a policy is evaluated, since that is the distribution sampled from.

    :returns: two [rows, longest reply] tensors, 0 outside the mask; differentiable (the entropy is not).
    """
    ids = right_pad([replies.sequences[i] for i in rows], model.device)
    mask, at_row, columns = _reply_tokens(replies, rows)
    logprobs = (logits_at(model, ids, at_row, columns - 1) / temperature).log_softmax(-1)
    chosen = logprobs.gather(1, ids[at_row, columns][:, None])[:, 0]
    with torch.no_grad():
        entropy = -(logprobs.exp() * logprobs).sum(-1)
    return _scatter(chosen, mask), _scatter(entropy, mask)


def reply_values(critic: PreTrainedModel, replies: Replies, rows: Sequence[int]) -> Tensor:
    """V(s_t) before each reply token was chosen, [rows, longest reply], 0 outside the mask; differentiable."""
    values = token_values(critic, right_pad([replies.sequences[i] for i in rows], critic.device))
    mask, at_row, columns = _reply_tokens(replies, rows)
    return _scatter(values[at_row, columns - 1], mask)


@torch.no_grad()
def in_batches(
    function: Callable[[Sequence[int]], Tensor], replies: Replies, micro_tokens: int, strategy: Strategy | None = None
) -> Tensor:
    """Apply ``function(rows) -> [rows, …]`` to all rows in length-grouped batches, without gradients; ranks share the rows."""
    strategy = strategy or Single()
    found: list[tuple[list[int], Tensor]] = []
    for rows, weight in turns(strategy, range(len(replies.sequences)), replies.lengths, micro_tokens):
        values = function(rows)
        found.append((rows, values if weight else torch.zeros_like(values)))
    result = found[0][1].new_zeros(len(replies.sequences), *found[0][1].shape[1:])
    for rows, values in found:
        result[rows] += values
    return strategy.combine(result)


def policy_logprobs(model: PreTrainedModel, replies: Replies, temperature: float, micro_tokens: int, strategy: Strategy) -> Tensor:
    """:func:`reply_logprobs` of all replies, without gradients, [replies, longest reply]."""
    return in_batches(lambda rows: strategy.forward(model, reply_logprobs, replies, rows, temperature)[0], replies, micro_tokens, strategy)


def rewards_of(model: PreTrainedModel, replies: Replies, micro_tokens: int, strategy: Strategy | None = None) -> Tensor:
    """The reward model's score of each whole sequence, [replies]."""
    strategy = strategy or Single()

    def rewards(rows: Sequence[int]) -> Tensor:
        return strategy.forward(model, last_token_values, [replies.sequences[i] for i in rows])

    return in_batches(rewards, replies, micro_tokens, strategy)


def _reply_tokens(replies: Replies, rows: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """The rows' mask, and for each reply token its row among them and its column in the whole sequence."""
    mask = replies.mask[list(rows)]
    at_row, at_token = mask.nonzero(as_tuple=True)
    starts = torch.tensor([replies.prompt_lengths[i] for i in rows], device=mask.device)
    return mask, at_row, starts[at_row] + at_token


def _scatter(values: Tensor, mask: Tensor) -> Tensor:
    """Put a flat tensor of values back where the mask is 1 (row by row)."""
    result = values.new_zeros(mask.shape)
    result[mask.bool()] = values
    return result
