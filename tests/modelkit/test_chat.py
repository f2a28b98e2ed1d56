"""Training, scoring and generation see the same tokens, and the assistant's spans are what the assistant said."""

from __future__ import annotations

import copy

import pytest
from transformers import PreTrainedTokenizerFast

from modelkit.chat import PLAIN_TEMPLATE, Message, encode_chat, encode_prompt, stop_ids, verify_template
from modelkit.errors import UserError

CHAT: list[Message] = [
    {"role": "user", "content": "What is the capital of France?"},
    {"role": "assistant", "content": "Paris."},
    {"role": "user", "content": "法国的首都是哪里？"},
    {"role": "assistant", "content": "巴黎。"},
]


def spans(tokenizer: PreTrainedTokenizerFast, messages: list[Message]) -> list[str]:
    """The decoded runs of assistant tokens."""
    chat = encode_chat(tokenizer, messages)
    runs: list[list[int]] = []
    for i, (token, said) in enumerate(zip(chat.ids, chat.assistant, strict=True)):
        if said:
            if i == 0 or not chat.assistant[i - 1]:
                runs.append([])
            runs[-1].append(token)
    return [str(tokenizer.decode(run)) for run in runs]


@pytest.mark.parametrize("template", [None, PLAIN_TEMPLATE])
def test_the_assistant_spans_hold_each_reply_with_its_end(tokenizer: PreTrainedTokenizerFast, template: str | None) -> None:
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = template or tokenizer.chat_template
    assert [text.strip() for text in spans(tokenizer, CHAT)] == ["Paris.</s>", "巴黎。</s>"]
    verify_template(tokenizer)


def test_a_prompt_is_a_prefix_of_the_conversation_it_opens(tokenizer: PreTrainedTokenizerFast) -> None:
    chat, prompt = encode_chat(tokenizer, CHAT), encode_prompt(tokenizer, CHAT[:3])
    assert chat.ids[: len(prompt)] == prompt
    assert chat.prompt_length == len(prompt)


def test_there_is_exactly_one_bos(tokenizer: PreTrainedTokenizerFast) -> None:
    assert encode_chat(tokenizer, CHAT).ids.count(1) == 1


def test_nothing_after_the_last_reply_is_scored(tokenizer: PreTrainedTokenizerFast) -> None:
    plain = copy.deepcopy(tokenizer)
    plain.chat_template = PLAIN_TEMPLATE
    assert encode_chat(plain, CHAT[:2]).ids[-1] == plain.eos_token_id


def test_templates_that_would_train_the_wrong_thing_are_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    rewriting = "{{ messages | length }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
    never_stops = "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] }}{% endfor %}"
    never_stops += "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    for template, says in [(rewriting, "rewrites earlier turns"), (never_stops, "could not learn to stop")]:
        broken = copy.deepcopy(tokenizer)
        broken.chat_template = template
        with pytest.raises(UserError, match=says):
            verify_template(broken)
    missing = copy.deepcopy(tokenizer)
    missing.chat_template = None
    with pytest.raises(UserError, match="no chat template"):
        encode_chat(missing, CHAT)


def test_a_conversation_without_a_reply_has_nothing_to_learn(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(UserError, match="nothing to learn"):
        encode_chat(tokenizer, CHAT[:1])


def test_stop_ids_join_tokenizer_and_generation_config(tokenizer: PreTrainedTokenizerFast) -> None:
    class Model:
        class generation_config:
            eos_token_id = [7, 2]

    assert stop_ids(tokenizer, Model) == [2, 7]
