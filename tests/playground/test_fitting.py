from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelkit.chat import Message, encode_prompt
from playground import fitting
from playground.fitting import TooLong, fit
from tests.playground.fake_run import make_tokenizer

TOKENIZER = make_tokenizer()


def conversation(lengths: list[int], system: bool) -> list[Message]:
    turns = [(Message(role="user", content="a" * length), Message(role="assistant", content="b")) for length in lengths]
    lead = [Message(role="system", content="c")] if system else []
    return [*lead, *(message for turn in turns for message in turn)][:-1]


def obviously_fitted(messages: list[Message], room: int) -> tuple[list[int], list[Message], int]:
    """The slow twin: one turn after the other is dropped until the rest fits."""
    lead = [message for message in messages if message["role"] == "system"]
    for dropped in range(len(messages)):
        kept = [*lead, *messages[len(lead) + 2 * dropped :]]
        if len(ids := encode_prompt(TOKENIZER, kept)) <= room:
            return ids, kept, dropped
        if len(kept) == len(lead) + 1:
            break
    raise TooLong(f"the message is {len(ids)} tokens long")


@given(lengths=st.lists(st.integers(0, 60), min_size=1, max_size=12), system=st.booleans(), context=st.integers(40, 400))
def test_the_fewest_turns_are_dropped_after_which_the_rest_fits(lengths: list[int], system: bool, context: int) -> None:
    messages = conversation(lengths, system)
    try:
        expected = obviously_fitted(messages, context - 10)
    except TooLong as error:
        with pytest.raises(TooLong, match=str(error)):
            fit(TOKENIZER, messages, context, max_tokens=10)
    else:
        assert fit(TOKENIZER, messages, context, max_tokens=10) == expected


def test_a_long_conversation_is_read_a_few_times_not_once_for_each_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []

    def counting(tokenizer: Any, messages: list[Message]) -> list[int]:
        read.append(len(messages))
        return encode_prompt(tokenizer, messages)

    monkeypatch.setattr(fitting, "encode_prompt", counting)
    _, _, dropped = fit(TOKENIZER, conversation([5] * 256, system=True), 200, 50)
    assert 0 < dropped < 256
    assert len(read) <= 10
