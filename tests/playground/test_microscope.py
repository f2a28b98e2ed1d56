"""What the microscope tells, against a slow literal reading of the same models."""

from __future__ import annotations

import math

import pytest
import torch

from modelkit.chat import Message, encode_chat
from modelkit.errors import UserError
from playground.api.tokens import TokenTexts
from playground.microscope.card import alternatives, card
from playground.microscope.divergence import exact_kl
from playground.microscope.reading import MAX_REPLY_TOKENS, Alternative, Reading, Token, default_pair, examine, go_on, legible, write
from playground.microscope.sentences import sentences
from playground.models import Models

PROMPT, REPLY = "What is <b>five</b>?", "It is seven. 热的反义词是冷。Twelve 🦊!"
BEFORE, AFTER = "pocket/sft", "pocket/rl"


def conversation(reply: str) -> list[Message]:
    return [{"role": "user", "content": PROMPT}, {"role": "assistant", "content": reply}]


@pytest.fixture
def reading(models: Models) -> Reading:
    return examine(models, BEFORE, AFTER, PROMPT, REPLY)


def test_probabilities_and_kl_equal_a_pass_for_each_token(models: Models, reading: Reading) -> None:
    chat = encode_chat(models.language(models.entry(AFTER)).tokenizer, conversation(REPLY))
    start = chat.assistant.index(True)
    assert [token.id for token in reading.tokens] == chat.ids[start:]
    for place, token in enumerate(reading.tokens):
        rows = []
        for name in (BEFORE, AFTER):
            with torch.inference_mode():
                logits = models.language(models.entry(name)).model(torch.tensor([chat.ids[: start + place]])).logits[0, -1]
            rows.append([float(logit - logits.logsumexp(0)) for logit in logits])
        old, new = rows
        assert token.before == pytest.approx(old[token.id], abs=1e-4)
        assert token.after == pytest.approx(new[token.id], abs=1e-4)
        assert token.kl == pytest.approx(sum(math.exp(q) * (q - p) for p, q in zip(old, new, strict=True)), abs=1e-4)
        ranked = sorted(range(len(new)), key=lambda other: -new[other])
        assert token.alternatives[0].token == ranked[0]
        assert {*ranked[:5], token.id} <= {other.token for other in token.alternatives}


def test_running_reward_and_removed_sentences_equal_rewards_of_shorter_conversations(models: Models, reading: Reading) -> None:
    judge = models.reward(models.entry(AFTER))
    assert judge is not None
    chat = encode_chat(judge.model.tokenizer, conversation(REPLY))
    start = chat.assistant.index(True)
    for place, token in enumerate(reading.tokens[:-1]):
        assert token.reward == pytest.approx(judge.model.score_ids([[*chat.ids[: start + place + 1], chat.ids[-1]]])[0], abs=1e-4)
    whole = judge.model.score([conversation(REPLY)])[0]
    assert reading.reward == reading.tokens[-1].reward == pytest.approx(whole, abs=1e-4)
    parts = sentences(REPLY)
    assert [part.text for part in reading.removed] == [part.strip() for part in parts]
    for place, part in enumerate(reading.removed):
        left = "".join(text for other, text in enumerate(parts) if other != place).strip()
        assert part.reward == pytest.approx(judge.model.score([conversation(left)])[0], abs=1e-4)


def test_values_are_the_critics_after_each_token(models: Models, reading: Reading) -> None:
    critic = models.critic(models.entry(AFTER))
    assert critic is not None
    chat = encode_chat(critic.model.tokenizer, conversation(REPLY))
    start = chat.assistant.index(True)
    for place, token in enumerate(reading.tokens):
        assert token.value == pytest.approx(critic.model.score_ids([chat.ids[: start + place + 1]])[0], abs=1e-4)


def test_a_checkpoint_beside_itself_has_not_changed(models: Models) -> None:
    same = examine(models, AFTER, AFTER, PROMPT, REPLY)
    assert all(token.log_ratio == 0 and token.kl == 0 for token in same.tokens)


def test_kl_is_no_less_than_nothing() -> None:
    torch.manual_seed(0)
    before, after = (torch.randn(50, 30).log_softmax(-1) for _ in range(2))
    assert bool((exact_kl(before, after) > 0).all())


def test_tokens_never_show_broken_characters(models: Models, reading: Reading) -> None:
    texts = TokenTexts(models.language(models.entry(AFTER)).tokenizer)
    assert b"".join(texts.bytes(token.id) for token in reading.tokens).decode().startswith(f" {REPLY}")
    shown = "".join(token.text for token in reading.tokens)
    assert "\ufffd" not in shown
    assert "‹F0›" in shown
    assert legible("佳".encode()[:2]) == "‹E4 BD›"


def test_another_token_stands_in_its_place_and_a_checkpoint_goes_on(models: Models, reading: Reading) -> None:
    other = next(other for other in reading.tokens[2].alternatives if other.token != reading.tokens[2].id)
    said = [token.id for token in reading.tokens[:2]] + [other.token]
    loaded = models.language(models.entry(AFTER))
    ids = [*reading.context, *said]
    for _ in range(8):
        with torch.inference_mode():
            ids.append(int(loaded.model(torch.tensor([ids])).logits[0, -1].argmax()))
    start = str(loaded.tokenizer.decode(ids[len(reading.context) :], skip_special_tokens=True)).strip().rstrip("\ufffd")
    assert go_on(models, reading, 2, other.token, AFTER).startswith(start)


@pytest.mark.parametrize(("place", "token", "writer"), [(999, 5, AFTER), (-1, 5, AFTER), (0, 10**9, AFTER), (0, None, "pocket/base")])
def test_what_is_not_on_offer_is_refused(models: Models, reading: Reading, place: int, token: int | None, writer: str) -> None:
    with pytest.raises(UserError, match="not on offer"):
        go_on(models, reading, place, reading.tokens[0].id if token is None else token, writer)


@pytest.mark.parametrize(
    ("prompt", "reply", "said"),
    [
        ("", "reply", "no prompt"),
        ("prompt", "  ", "no reply"),
        ("x" * 8001, "reply", "8,001 characters"),
        ("prompt", "🦊" * MAX_REPLY_TOKENS, "at most"),
        ("y" * 240, "reply of some more tokens", "a model reads 256"),
    ],
)
def test_texts_that_cannot_be_read_are_refused_in_a_sentence(models: Models, prompt: str, reply: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        examine(models, BEFORE, AFTER, prompt, reply)


def test_a_reward_model_is_refused_as_one_of_the_two(models: Models) -> None:
    with pytest.raises(UserError, match="can't write"):
        examine(models, "pocket/rm", AFTER, PROMPT, REPLY)


def test_sft_and_rl_are_compared_at_first_and_the_second_can_write(models: Models) -> None:
    assert default_pair(models) == (BEFORE, AFTER)
    assert write(models, AFTER, PROMPT) == write(models, AFTER, PROMPT)


def test_checkpoints_with_vocabularies_of_different_sizes_are_refused(models: Models) -> None:
    models.language(models.entry(BEFORE)).model.resize_token_embeddings(1000)
    with pytest.raises(UserError, match="vocabularies of different sizes"):
        examine(models, BEFORE, AFTER, PROMPT, REPLY)


def test_only_what_ends_a_reply_is_called_its_end(models: Models, reading: Reading) -> None:
    tokenizer = models.language(models.entry(AFTER)).tokenizer
    assert [token.ends for token in reading.tokens] == [False] * (len(reading.tokens) - 1) + [True]
    for token in reading.tokens:
        assert [other.ends for other in token.alternatives] == [other.token == tokenizer.eos_token_id for other in token.alternatives]
    shown = card("en", reading, ("SFT", "RL"))
    assert shown.count("⟨end⟩") == 1
    tag = Token(7, "<b>", -1.0, -1.0, 0.0, (Alternative(7, "<b>", -1.0, -1.0),))
    assert "⟨end⟩" not in card("en", Reading(BEFORE, AFTER, PROMPT, (), (tag,)), ("SFT", "RL"))


def test_the_card_escapes_what_models_say_and_tells_direction_without_colour() -> None:
    evil = Alternative(7, "<img>", -3.0, -1.0)
    token = Token(7, "<img>", -3.0, -1.0, 0.25, (evil,), None, 1.0)
    down = Token(8, "b", -1.0, -3.0, 0.25, (Alternative(8, "b", -1.0, -3.0),), None, 1.5)
    shown = card("en", Reading(BEFORE, AFTER, PROMPT, (), (token, down), 1.5, "<rm>"), ("<SFT>", "RL"))
    assert "<img" not in shown
    assert "<SFT>" not in shown
    assert "<rm>" not in shown
    assert "pg-likelier" in shown
    assert "pg-unlikelier" in shown
    assert "+0.00 nats" in shown
    assert "0.50 nats" in shown
    offered = alternatives("zh", Reading(BEFORE, AFTER, PROMPT, (), (token, down)), 0, ("<SFT>", "RL"))
    assert "<img" not in offered
    assert 'data-pg-alternative="0.7.1"' in offered
    assert "5.0 %" in offered
    assert "36.8 %" in offered
