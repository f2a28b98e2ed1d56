"""One pass of a language model over a grid of tokens. What differs between architectures is known here and nowhere else."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from modelkit.linear import fast_linear
from modelkit.scoring.batches import Grid
from modelkit.scoring.logits import plain_head
from modelkit.scoring.shared_cache import KeysValues, SharedPrefix

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_LOGITS = 2**24  # held in memory at a time
_KINDS = {"full_attention", "sliding_attention"}


Likeliest = list[tuple[int, float]]
"""Token ids with their natural-log probabilities, the likeliest first."""


@dataclass(frozen=True)
class Passed:
    """What a pass gave: log-probabilities in the order of ``grid.reads`` (and the likeliest tokens there, where they were wanted), to
    how many places the output layer was applied to get them, and keys and values where they were to be kept.
    """

    grid: Grid
    logprobs: list[float]
    likeliest: list[Likeliest]
    outputs: int
    keys_values: KeysValues


class Forward:
    """Forward passes of one model; of an adapter's base model, with the adapter in it."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model: Any = getattr(model, "get_base_model", lambda: model)()
        self.plain_head = plain_head(self.model)
        self.body: Any = self.model.base_model
        self.device, self.dtype = self.model.device, self.model.dtype
        self.boolean_mask = getattr(self.model.config, "_attn_implementation", "") == "sdpa"
        self.takes_positions = "position_ids" in inspect.signature(self.body.forward).parameters

    @property
    def places_tokens(self) -> bool:
        """Whether tokens can be told their places, which lines of several sequences need."""
        return self.takes_positions or hasattr(self.body, "build_alibi_tensor")

    @property
    def tolerance(self) -> float:
        """How far two ways to the same log-probability may differ, in nats."""
        return 1e-3 if self.dtype == torch.float32 else 0.1

    def unshareable(self, longest: int) -> str | None:
        """Why sequences of up to *longest* tokens can't share their beginnings in this model, as far as its configuration tells."""
        config = self.model.config
        others = sorted(set(getattr(config, "layer_types", None) or ()) - _KINDS)
        if others:
            return f"layers of type {', '.join(others)}"
        window = getattr(config, "sliding_window", None)
        if window and getattr(config, "use_sliding_window", True) and longest > window:
            return f"a sliding window of {window} tokens"
        return None

    def run(self, grid: Grid, prefix: KeysValues, tokens: Sequence[int], keep: bool = False, top: int = 0) -> Passed:
        """Natural-log probability of ``tokens[k]`` at the place of ``grid.reads[k]``, over the full vocabulary, normalised in fp32.

        :param prefix: what all lines see to their left; empty for nothing.
        :param keep: whether keys and values of *prefix* and the grid's one line shall be returned, too.
        :param top: how many of the likeliest tokens to tell at each place.
        """
        rows, columns = (torch.tensor([read[axis] for read in grid.reads], dtype=torch.long, device=self.device) for axis in (0, 1))
        head: Any
        if self.plain_head or not grid.reads:
            output = self._pass(self.body, grid, prefix, keep)
            places, where = (rows * grid.ids.shape[1] + columns).unique(return_inverse=True)
            states, head = output.last_hidden_state.flatten(0, 1)[places], self.model.get_output_embeddings()
        else:
            kept, column = columns.unique(return_inverse=True)
            output = self._pass(self.model, grid, prefix, keep, logits_to_keep=kept)
            states, head, where = output.logits[rows, column], nn.Identity(), torch.arange(len(rows), device=self.device)
        wanted = torch.tensor(tokens, dtype=torch.long, device=self.device)
        found = torch.empty(len(tokens), device=self.device)
        tops: list[Likeliest] = []
        step = max(1, _LOGITS // self.model.config.vocab_size)
        with fast_linear(self.device, self.dtype):
            for start in range(0, len(states), step):
                logits = head(states[start : start + step]).float()
                here = (where >= start) & (where < start + step)
                picked = where[here] - start
                norm = logits.logsumexp(-1)
                found[here] = logits[picked, wanted[here]] - norm[picked]
                if top:
                    best = logits.topk(min(top, logits.shape[-1]))
                    tops += _pairs(best.indices, best.values - norm[:, None])
        likeliest = [tops[place] for place in where.tolist()] if top else []
        return Passed(grid, found.tolist(), likeliest, len(states), output.past_key_values.kept if keep else [])

    def states(self, grid: Grid) -> torch.Tensor:
        """The last hidden states of *grid*, [lines, columns, hidden]. Differentiable, so nothing is cached and nothing comes before."""
        options = {"position_ids": grid.positions.to(self.device)} if self.takes_positions and not grid.chains else {}
        mask = None if grid.chains else self._mask(grid, 0)
        with self._alibi_of(grid, 0):
            return self.body(input_ids=grid.ids.to(self.device), attention_mask=mask, use_cache=False, **options).last_hidden_state

    def _pass(self, module: Any, grid: Grid, prefix: KeysValues, keep: bool, **options: Any) -> Any:
        """Run *module* (the model, or its body without the output layer) over *grid*.

        Without a prefix, lines of single sequences need neither mask nor positions: the model's own causal attention is right.
        """
        with fast_linear(self.device, self.dtype):
            if not prefix and grid.chains and not keep:
                return module(input_ids=grid.ids.to(self.device), use_cache=False, **options)
            if self.takes_positions:
                options["position_ids"] = grid.positions.to(self.device)
            before = prefix[0][0].shape[2] if prefix else 0
            mask = None if grid.chains and not before else self._mask(grid, before)
            with self._alibi_of(grid, before):
                cache = SharedPrefix(prefix, keep)
                return module(input_ids=grid.ids.to(self.device), attention_mask=mask, past_key_values=cache, use_cache=True, **options)

    def _mask(self, grid: Grid, before: int) -> torch.Tensor:
        visible = grid.visible(before)[:, None].to(self.device)
        if self.boolean_mask:
            return visible
        return torch.zeros(visible.shape, dtype=self.dtype, device=self.device).masked_fill_(~visible, torch.finfo(self.dtype).min)

    @contextmanager
    def _alibi_of(self, grid: Grid, before: int) -> Iterator[None]:
        """For models whose attention is biased by a key's place (ALiBi, in BLOOM): the place in its sequence, not in its line."""
        if not hasattr(self.body, "build_alibi_tensor"):
            yield
            return
        places = torch.nn.functional.pad(grid.positions, (before, 0))
        places[:, :before] = torch.arange(before)
        original = self.body.build_alibi_tensor

        def build_alibi_tensor(attention_mask: torch.Tensor, num_heads: int, dtype: torch.dtype) -> torch.Tensor:
            slopes = original(torch.ones(1, 2, dtype=torch.long, device=self.device), num_heads, torch.float32)[:, :, 1]
            return (slopes * places.to(self.device)[:, None, :]).flatten(0, 1)[:, None, :].to(dtype)

        self.body.build_alibi_tensor = build_alibi_tensor
        try:
            yield
        finally:
            del self.body.build_alibi_tensor


def _pairs(ids: torch.Tensor, logprobs: torch.Tensor) -> list[Likeliest]:
    return [list(zip(*row, strict=True)) for row in zip(ids.tolist(), logprobs.tolist(), strict=True)]
