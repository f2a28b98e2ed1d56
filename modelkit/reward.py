"""Reward models: the score of a conversation, of every token, and the best of n replies."""

from __future__ import annotations

import bisect
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from modelkit import checkpoint
from modelkit.chat import Message, encode_chat
from modelkit.errors import UserError
from modelkit.gptq.layer import always_dequantise
from modelkit.linear import fast_linear
from modelkit.scoring.batches import Grid, by_length, right_pad
from modelkit.scoring.forward import Forward
from modelkit.scoring.prefix_tree import build

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def token_values(model: PreTrainedModel, ids: torch.Tensor) -> torch.Tensor:
    """The scalar head's output at every position of a right-padded batch, fp32 [rows, length]. Differentiable.

    This is what a value model gives; a reward is the value at a conversation's last token.
    """
    hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    return _head(model)(hidden)[..., 0].float()


def last_token_values(model: PreTrainedModel, sequences: Sequence[Sequence[int]]) -> torch.Tensor:
    """The scalar head's output at each sequence's last token, fp32 [sequences]. Differentiable.

    The position comes from the length, never from looking for padding: with pad = eos that finds the wrong token.
    """
    ids = right_pad(sequences, model.device)
    hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    last = torch.tensor([len(sequence) - 1 for sequence in sequences], device=hidden.device)
    return _head(model)(hidden[torch.arange(len(sequences), device=hidden.device), last])[:, 0].float()


def grouped_last_token_values(model: PreTrainedModel, groups: Sequence[Sequence[Sequence[int]]]) -> torch.Tensor:
    """The same for the sequences of all *groups*, in order, with what a group's sequences begin with in common computed once.

    Answers to one prompt share it, and often the first words of the answer as well. Every group is one line of the batch, in which
    a token sees only what belongs to its own sequence. Models that can't share (a short window, layers without attention) take
    every sequence by itself. Differentiable.
    """
    sequences = [sequence for group in groups for sequence in group]
    forward = Forward(model)
    if forward.unshareable(max(map(len, sequences))) or not forward.places_tokens:
        return last_token_values(model, sequences)
    reads = [[len(sequence) - 1] for sequence in sequences]
    ends = list(accumulate((len(group) for group in groups), initial=0))
    grid = Grid.of([build(sequences, reads, range(start, end)) for start, end in pairwise(ends)], sequences)
    rows, columns, members, _ = (torch.tensor(axis, device=forward.device) for axis in zip(*grid.reads, strict=True))
    order = members.argsort()
    return _head(model)(forward.states(grid)[rows[order], columns[order]])[:, 0].float()


def _head(model: PreTrainedModel) -> torch.nn.Linear:
    return model.score  # type: ignore[return-value]


@dataclass(frozen=True)
class RewardModel:
    """A reward model with its tokenizer. Formats a conversation exactly as its training did."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @classmethod
    def load(cls, path: Path, device: torch.device | None = None) -> RewardModel:
        """Load a checkpoint; one in 4 bits computes with dequantised weights, so that no reward depends on what is scored with it.

        :raises UserError: when the checkpoint isn't whole or isn't a reward model.
        """
        model = checkpoint.load_model(path, "reward", device=device)
        always_dequantise(model)
        return cls(model, checkpoint.load_tokenizer(path))

    def score(self, conversations: Sequence[Sequence[Message]], token_budget: int = 16384) -> list[float]:
        """One reward per conversation, each of which ends with the assistant's reply."""
        return self.score_ids([encode_chat(self.tokenizer, messages).ids for messages in conversations], token_budget)

    @torch.inference_mode()
    def score_ids(
        self, sequences: Sequence[Sequence[int]], token_budget: int = 16384, between: Callable[[], None] = lambda: None
    ) -> list[float]:
        """One reward per token sequence, read at its last token.

        :param between: called after each batch; what it raises ends the work.
        """
        rewards = [math.nan] * len(sequences)
        with fast_linear(self.model.device, self.model.dtype):
            for batch in by_length([len(sequence) for sequence in sequences], token_budget):
                for index, value in zip(batch, last_token_values(self.model, [sequences[i] for i in batch]).tolist(), strict=True):
                    rewards[index] = value
                between()
        return rewards

    def best_of(self, prompt: Sequence[Message], replies: Sequence[str]) -> tuple[int, list[float]]:
        """Score each reply to *prompt*; return the best one's index and all rewards."""
        if not replies:
            raise UserError("best-of-n needs at least one reply to choose from.")
        rewards = self.score([[*prompt, {"role": "assistant", "content": reply}] for reply in replies])
        return max(range(len(rewards)), key=rewards.__getitem__), rewards


@dataclass(frozen=True)
class RewardReference:
    """The rewards of held-out SFT replies (``reward_reference.json``), which give a raw reward its meaning."""

    rewards: list[float]
    mean: float
    sd: float

    @classmethod
    def of(cls, rewards: Sequence[float]) -> RewardReference:
        """Summarise rewards; ``sd`` is the sample standard deviation."""
        mean = sum(rewards) / len(rewards)
        sd = math.sqrt(sum((reward - mean) ** 2 for reward in rewards) / max(1, len(rewards) - 1))
        return cls(sorted(rewards), mean, sd)

    @classmethod
    def read(cls, reward_model: Path) -> RewardReference | None:
        """The reference beside a reward model's weights, or ``None`` where there is none."""
        file = reward_model / "reward_reference.json"
        if not file.exists():
            return None
        value = json.loads(file.read_text(encoding="utf-8"))
        return cls(value["rewards"], value["mean"], value["sd"])

    def to_json(self) -> dict[str, object]:
        """The content of ``reward_reference.json``."""
        return {"rewards": self.rewards, "mean": self.mean, "sd": self.sd}

    def percentile(self, reward: float) -> float:
        """Share of SFT replies (in 0…100) with a reward at most this high; ties count half."""
        low, high = bisect.bisect_left(self.rewards, reward), bisect.bisect_right(self.rewards, reward)
        return 100.0 * (low + high) / 2 / max(1, len(self.rewards))
