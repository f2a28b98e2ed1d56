"""Prompts → token ids: plain or as a user's turn, and with the beginning-of-sequence token exactly as often as it should be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from modelkit.chat import Message, render_prompt, reply_lead
from modelkit.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


Said = str | Sequence[Message]
"""A prompt: a text, or the turns of a conversation that ends with the user. In a chat a text is a user's only turn."""


class PromptEncoder(Protocol):
    """What prompts are made with: how long texts are, as far as the model's tokenizer is known."""

    @property
    def chat(self) -> bool:
        """Whether a prompt is a conversation."""

    @property
    def bos(self) -> str:
        """Who begins the sequence."""

    def encode(self, prompts: Sequence[Said]) -> list[list[int]]:
        """Token ids of each prompt."""

    def lengths(self, pieces: Sequence[str]) -> list[int]:
        """Number of tokens of each piece of text on its own."""

    def answer_tokens(self, prompt: Said, lead: str, answers: Sequence[str]) -> list[list[int]]:
        """The tokens each answer adds to *prompt* behind *lead*."""

    def render(self, prompt: Said) -> str:
        """The prompt's text."""


class Untokenised:
    """Stands in where the tokenizer is only a server's: no ids, and lengths of 0, so that nothing is too long to be asked."""

    bos = "by the server"

    def __init__(self, chat: bool = False) -> None:
        self.chat = chat

    def encode(self, prompts: Sequence[Said]) -> list[list[int]]:
        """No token, for each prompt."""
        return [[] for _ in prompts]

    def lengths(self, pieces: Sequence[str]) -> list[int]:
        """0 for each piece."""
        return [0] * len(pieces)

    def answer_tokens(self, prompt: Said, lead: str, answers: Sequence[str]) -> list[list[int]]:
        """None."""
        return []

    def render(self, prompt: Said) -> str:
        """A text as it is; of a conversation, each turn with its role before it."""
        if isinstance(prompt, str):
            return prompt
        return "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in prompt)


class Encoder:
    """Encodes prompts, and prompts with an answer, of one tokenizer.

    A plain prompt begins with one beginning-of-sequence token if the tokenizer adds it by itself, and with none otherwise.
    With *chat* the prompt is a user's turn, the answer the reply's beginning. In conversations the template alone decides.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, chat: bool = False) -> None:
        self._tokenizer = tokenizer
        self.chat = chat
        bos = tokenizer.bos_token_id
        self._prefix = [bos] if not chat and bos is not None and tokenizer("x")["input_ids"][:1] == [bos] else []
        self._lead = reply_lead(tokenizer) if chat else None
        self.bos = "by the chat template" if chat else "added by the tokenizer" if self._prefix else "none"

    def encode(self, prompts: Sequence[Said]) -> list[list[int]]:
        """Token ids of each prompt."""
        return self._ids(prompts, [self.render(prompt) for prompt in prompts])

    def encode_answered(self, prompts: Sequence[Said], lead: str, answers: Sequence[str]) -> list[list[int]]:
        """Token ids of each prompt followed by *lead* (in a chat: by what the template writes there) and its answer."""
        between = lead if self._lead is None else self._lead
        return self._ids(prompts, [self.render(prompt) + between + answer for prompt, answer in zip(prompts, answers, strict=True)])

    def lengths(self, pieces: Sequence[str]) -> list[int]:
        """Number of tokens of each piece of text encoded on its own, as the tokenizer does by default."""
        return [len(self._prefix) + len(ids) for ids in self._batch(pieces)]

    def answer_tokens(self, prompt: Said, lead: str, answers: Sequence[str]) -> list[list[int]]:
        """The tokens each answer adds to *prompt*.

        :raises UserError: when an answer changes how the end of the prompt is tokenised, so that it can't be scored after it.
        """
        (before,) = self.encode([prompt])
        found = []
        for answer, ids in zip(answers, self.encode_answered([prompt] * len(answers), lead, answers), strict=True):
            if ids[: len(before)] != before or len(ids) == len(before):
                raise UserError(
                    f"this tokenizer merges the answer {answer!r} with the end of the prompt, so its probability can't be read after the "
                    "prompt: use --method perplexity."
                )
            found.append(ids[len(before) :])
        return found

    def render(self, prompt: Said) -> str:
        """The prompt's text as the model reads it."""
        if isinstance(prompt, str):
            return render_prompt(self._tokenizer, [{"role": "user", "content": prompt}]) if self.chat else prompt
        return render_prompt(self._tokenizer, prompt)

    def _ids(self, prompts: Sequence[Said], texts: Sequence[str]) -> list[list[int]]:
        """Token ids of *texts*, which are made of *prompts*."""
        bos = self._prefix
        return [
            bos + ids if isinstance(prompt, str) and ids[: len(bos)] != bos else ids
            for prompt, ids in zip(prompts, self._batch(texts), strict=True)
        ]

    def _batch(self, texts: Sequence[str]) -> list[list[int]]:
        if not texts:
            return []
        return self._tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
