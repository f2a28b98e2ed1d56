"""Messages → token ids through the tokenizer's own chat template, with the assistant's spans found by us.

Training, scoring and chatting all go through :func:`encode_chat` and :func:`encode_prompt`, so a reward or a log-probability is
always taken of exactly the tokens the model was trained on. Templates rarely carry ``{% generation %}`` marks, and a mask taken
from one that doesn't is silently all zero; so the spans are computed by rendering the conversation turn by turn, and checked.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import TemplateError
from typing_extensions import TypedDict  # pydantic accepts typing's own only from Python 3.12 on

from modelkit.adapter import base_of, is_adapter
from modelkit.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PLAIN_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] + '\n' }}"
    "{% elif message['role'] == 'user' %}{{ 'User: ' + message['content'] + '\n' }}"
    "{% else %}{{ 'Assistant: ' + message['content'] + eos_token + '\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
"""A template that needs no new tokens, for base models that come without one."""


class Message(TypedDict):
    """``role`` is system, user or assistant."""

    role: str
    content: str


class HistoryRewritten(UserError):
    """The template renders earlier turns otherwise once a later one follows (it drops their reasoning, say)."""


@dataclass(frozen=True)
class EncodedChat:
    """Token ids of a whole conversation, and for each whether the assistant said it (what a loss may look at)."""

    ids: list[int]
    assistant: list[bool]

    @property
    def prompt_length(self) -> int:
        """Number of tokens before the last assistant turn."""
        end = len(self.ids)
        while end and not self.assistant[end - 1]:
            end -= 1
        while end and self.assistant[end - 1]:
            end -= 1
        return end


def encode_prompt(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> list[int]:
    """Token ids of a conversation that ends with the user, followed by the opening of the assistant's turn."""
    return _ids(tokenizer, _render(tokenizer, messages, open_turn=True))


def render_prompt(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> str:
    """The text that :func:`encode_prompt` turns into tokens."""
    return _render(tokenizer, messages, open_turn=True)


def reply_lead(tokenizer: PreTrainedTokenizerBase) -> str:
    """What the template writes between the opening of the assistant's turn and the reply itself (a blank, or nothing)."""
    probe: list[Message] = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "reply"}]
    opened, whole = _render(tokenizer, probe[:1], open_turn=True), _render(tokenizer, probe, open_turn=False)
    if not whole.startswith(opened):
        raise UserError("the chat template rewrites earlier turns, so the assistant's part can't be told apart: use another template.")
    return whole[len(opened) : whole.index("reply", len(opened))]


def encode_chat(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], last_only: bool = False) -> EncodedChat:
    """Token ids of a whole conversation, with the assistant's tokens marked, each turn's end-of-sequence token included.

    The conversation is cut after the end-of-sequence token of its last turn, so that what a template writes after it (a line
    break, say) is neither trained nor scored.

    :param last_only: mark the last turn only. This works with every template: what comes before the turn is exactly what a
        model sees when it answers, even where the template wrote the same turns otherwise before.
    :raises HistoryRewritten: when several turns are asked for and the template does not render a conversation as a prefix of
        its continuation.
    :raises UserError: when no assistant token would be left to learn from.
    """
    text = _render(tokenizer, messages, open_turn=False)
    spans: list[tuple[int, int]] = []
    for i, message in enumerate(messages):
        if message["role"] != "assistant" or (last_only and i < len(messages) - 1):
            continue
        before = _render(tokenizer, messages[:i], open_turn=True)
        upto = _render(tokenizer, messages[: i + 1], open_turn=False)
        if not (upto.startswith(before) and text.startswith(upto)):
            raise HistoryRewritten(
                "the chat template rewrites earlier turns, so the assistant's part can't be told apart: use another template."
            )
        end = len(upto)
        eos = tokenizer.eos_token
        if eos and (at := upto.rfind(eos, len(before))) >= 0:
            end = at + len(eos)
        spans.append((len(before), end))
    if not spans:
        raise UserError("a conversation without an assistant turn has nothing to learn from.")
    if messages[-1]["role"] == "assistant":
        text = text[: spans[-1][1]]
    encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ids, offsets = list(encoding["input_ids"]), encoding["offset_mapping"]
    assistant = [any(start <= left < end for start, end in spans) for left, _ in offsets]
    if not any(assistant):
        raise UserError("the chat template leaves no assistant token to learn from.")
    return EncodedChat(ids, assistant)


def verify_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """Check on a probe conversation that training and generation see the same tokens, and that the loss covers every answer.

    Of a template that rewrites earlier turns this is asked for the last turn, as such conversations are trained turn by turn.

    :raises UserError: when they would not, saying which property fails.
    """
    probe: list[Message] = [
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "Yes, 是的."},
        {"role": "user", "content": "二?"},
        {"role": "assistant", "content": "No."},
    ]
    answered: tuple[int, ...] = (1, 3)
    try:
        chat = encode_chat(tokenizer, probe)
    except HistoryRewritten:
        chat, answered = encode_chat(tokenizer, probe, last_only=True), (3,)
    for upto in answered:
        prompt = encode_prompt(tokenizer, probe[:upto])
        if chat.ids[: len(prompt)] != prompt or any(chat.assistant[len(prompt) - 1 : len(prompt)]) or not chat.assistant[len(prompt)]:
            raise UserError("the chat template gives a prompt other tokens in training than in generation: use another template.")
    if tokenizer.eos_token_id is not None and chat.ids[-1] != tokenizer.eos_token_id:
        raise UserError(
            f"the chat template does not end the assistant's turn with the end-of-sequence token {tokenizer.eos_token!r}, so a model could "
            "not learn to stop: let the template write it, or set eos_token to what it writes there."
        )


def stop_ids(tokenizer: PreTrainedTokenizerBase, model=None) -> list[int]:
    """The token ids that end an assistant's turn: the tokenizer's end of sequence and those of the generation config."""
    found = {tokenizer.eos_token_id} if tokenizer.eos_token_id is not None else set()
    configured = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    found |= set(configured) if isinstance(configured, list) else {configured} if configured is not None else set()
    return sorted(found)


def _render(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], open_turn: bool) -> str:
    if tokenizer.chat_template is None:
        raise UserError("this tokenizer has no chat template: it is a base model's; train it on conversations first.")
    plain = [{"role": message["role"], "content": message["content"]} for message in messages]
    try:
        return str(tokenizer.apply_chat_template(plain, tokenize=False, add_generation_prompt=open_turn))
    except TemplateError as error:
        raise UserError(f"the model's chat template refuses this conversation: {error}") from None


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def has_template(checkpoint: Path) -> bool:
    """Whether the checkpoint's tokenizer knows how to write a chat, found out without loading it."""
    if (checkpoint / "chat_template.jinja").exists() or (checkpoint / "chat_template.json").exists():
        return True
    file = checkpoint / "tokenizer_config.json"
    if is_adapter(checkpoint) and not file.exists():
        return has_template(base_of(checkpoint))
    try:
        return bool(json.loads(file.read_text(encoding="utf-8")).get("chat_template"))
    except (OSError, ValueError, AttributeError):
        return False
