"""What of a conversation a model can read: when it has grown too long, the oldest turns go, and the system prompt stays."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import TYPE_CHECKING

from modelkit.chat import Message, encode_prompt
from modelkit.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class TooLong(UserError):
    """What is asked doesn't fit into the model's context."""


def fit(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], context: int | None, max_tokens: int
) -> tuple[list[int], list[Message], int]:
    """Token ids of as much of a conversation as leaves room for an answer, those messages, and the number of turns dropped.

    A turn begins with what the user says; the oldest go first, a system prompt never. Room is *max_tokens*, or a quarter of the context
    where that is less. A model without a chat template reads the last message alone. How many turns have to go is found by halving: the
    fewer are left, the fewer tokens they have.

    :raises TooLong: when the last message (with the system prompt) is too long by itself.
    """
    if tokenizer.chat_template is None:
        messages = messages[-1:]
    room = context - min(max_tokens, context // 4) if context else None
    system, turns = (list(messages[:1]), messages[1:]) if messages[0]["role"] == "system" else ([], messages)
    starts = [0, *(i for i, message in enumerate(turns) if i and message["role"] == "user")]

    def without(dropped: int) -> tuple[list[int], list[Message], int]:
        kept = [*system, *turns[starts[dropped] :]]
        ids = encode_prompt(tokenizer, kept) if tokenizer.chat_template else list(tokenizer(kept[-1]["content"])["input_ids"])
        return ids, kept, dropped

    def fits(dropped: int) -> bool:
        return room is None or len(without(dropped)[0]) <= room

    ids, kept, dropped = without(0)
    if room is not None and len(ids) > room and len(starts) > 1:
        ids, kept, dropped = without(bisect_left(range(len(starts) - 1), True, lo=1, key=fits))
    if room is not None and len(ids) > room:
        raise TooLong(f"the message is {len(ids)} tokens long, but this model can read {room} beside its answer: shorten it.")
    return ids, kept, dropped
