"""Who judges: a model that is asked in words – served, or a checkpoint on this machine – or a reward model that gives numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from evalkit.judge.wording import Question
from evalkit.models import local
from evalkit.models.local import LocalModel
from evalkit.preparation import default_dtype
from modelkit import checkpoint
from modelkit.chat import Message, encode_chat, encode_prompt
from modelkit.context import longest_sequence
from modelkit.device import choose_device, dtype_of
from modelkit.errors import ModelError
from modelkit.fingerprint import fingerprint
from modelkit.generation.loop import Completion
from modelkit.generation.sampling import Sampling
from modelkit.generation.stream import decode
from modelkit.reward import RewardModel, RewardReference

MAX_TOKENS = 1024
"""Room for a verdict with its reasons. A reply that is cut off there is unscored."""


@dataclass(frozen=True)
class Reply:
    """What a judge said, or the ``reason`` why nothing came. ``cut`` when it ran out of tokens."""

    text: str = ""
    cut: bool = False
    reason: str | None = None


Replies = Callable[[list[int], list[Reply]], None]
"""Told the places of some questions and the replies to them, as soon as they are known."""


class TextJudge(Protocol):
    """A judge that is asked in words. ``identity`` changes with the model and with how it is asked.

    Two judges of the same identity are taken to say the same, so what one of them said is not asked again.
    """

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def identity(self) -> str:
        """What decides its words."""

    def estimate(self, questions: Sequence[Question]) -> str:
        """One line on what asking would take."""

    def ask(self, questions: Sequence[Question], on_replies: Replies) -> None:
        """Ask all questions, in any order.

        :raises UserError: when no more can be asked; what was answered has been handed over by then.
        """

    def spent(self) -> str:
        """One line on what asking took."""


@dataclass
class LocalJudge:
    """A chat checkpoint, asked greedily."""

    name: str
    identity: str
    model: LocalModel
    max_tokens: int = MAX_TOKENS

    def estimate(self, questions: Sequence[Question]) -> str:
        """See :class:`TextJudge`."""
        return f"{len(questions):,} questions to {self.name} on {self.model.device}"

    def ask(self, questions: Sequence[Question], on_replies: Replies) -> None:
        """See :class:`TextJudge`. A question that leaves no room for a verdict is unscored."""
        prompts = [encode_prompt(self.model.tokenizer, self._disarmed(question.messages)) for question in questions]
        context = self.model.context or 10**9
        fitting = [i for i, prompt in enumerate(prompts) if len(prompt) < context]
        if long := sorted(set(range(len(prompts))) - set(fitting)):
            on_replies(long, [Reply(reason=f"longer than the judge's context of {context} tokens")] * len(long))

        def settle(batch: list[int], found: list[Completion]) -> None:
            said = [Reply(decode(self.model.tokenizer, one.ids), cut=one.finish == "length") for one in found]
            on_replies([fitting[k] for k in batch], said)

        sampling = Sampling(max_tokens=self.max_tokens, temperature=0)
        self.model.generate([prompts[i] for i in fitting], sampling, settle)

    def spent(self) -> str:
        """See :class:`TextJudge`."""
        return f"{self.model.tokens_computed:,} tokens computed"

    def _disarmed(self, messages: Sequence[Message]) -> list[Message]:
        """The messages with a blank inside whatever the tokenizer would take for one of its special tokens.

        Else an answer that spells the end of a turn would end the judge's turn, whatever marks stand around it.
        """
        special = [token for token in self.model.tokenizer.all_special_tokens if len(token) > 1]

        def plain(text: str) -> str:
            for token in special:
                text = text.replace(token, f"{token[0]} {token[1:]}")
            return text

        return [{"role": message["role"], "content": plain(message["content"])} for message in messages]


@dataclass
class RewardJudge:
    """A reward model: no words and no position, so one reading of each answer decides everything."""

    name: str
    identity: str
    model: RewardModel
    reference: RewardReference | None

    @classmethod
    def load(cls, path: Path) -> RewardJudge:
        """:raises ModelError: when *path* holds no reward model."""
        return cls(path.name, fingerprint(path), RewardModel.load(path), RewardReference.read(path))

    def rewards(self, conversations: Sequence[Sequence[Message]]) -> list[float | None]:
        """The reward of each conversation; ``None`` where it is longer than the model reads."""
        context = longest_sequence(self.model.model.config) or 10**9
        ids = [encode_chat(self.model.tokenizer, conversation, last_only=True).ids for conversation in conversations]
        fitting = [i for i, one in enumerate(ids) if len(one) <= context]
        found: list[float | None] = [None] * len(ids)
        for i, reward in zip(fitting, self.model.score_ids([ids[i] for i in fitting]), strict=True):
            found[i] = reward
        return found

    def score(self, reward: float) -> float:
        """A reward on the scale of 1…10: its place among those of held-out SFT replies, the lowest 1, the highest 10.

        :raises ModelError: when the reward model has no such reference.
        """
        if self.reference is None:
            raise ModelError(
                f"{self.name} has no reward_reference.json, so its rewards have no scale: use `evalkit judge battle`, which needs none."
            )
        return 1.0 + 9.0 * self.reference.percentile(reward) / 100.0


Judge = TextJudge | RewardJudge


def load(path: Path, dtype: str | None, device: str | None, max_tokens: int = MAX_TOKENS) -> Judge:
    """The judge in a checkpoint directory.

    :raises ModelError: when it isn't whole.
    """
    checkpoint.check(path)
    if checkpoint.is_reward_model(path):
        return RewardJudge.load(path)
    place = choose_device(device)
    model = local.load(path, "language", dtype_of(dtype or default_dtype(str(place))), place)
    return LocalJudge(path.name, f"{fingerprint(path)} {model.dtype} {max_tokens}", model, max_tokens)
