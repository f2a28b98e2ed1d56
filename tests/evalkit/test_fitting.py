"""Which shots go when a prompt is too long, against the rules written out slowly."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from evalkit.encoding import Encoder
from evalkit.fitting import Ask, cut_left, drop_last, drop_longest, within
from evalkit.prompts import asks as asks_of
from evalkit.tasks import mmlu
from modelkit.checkpoint import load_tokenizer
from tests.evalkit.tiny import tiny_tokenizer


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(tiny_tokenizer())


def asks(seed: int = 3) -> list[Ask]:
    """Prompts of many lengths; some shots are equally long."""
    draw = random.Random(seed)

    def words(most: int) -> str:
        return " ".join(draw.choice(["Paris", "capital", "北京", "A.", "x"]) for _ in range(draw.randint(1, most)))

    shots = [f"{words(12)}\nAnswer: {letter}\n\n" for letter in "ABC"]
    shots.insert(2, shots[0])
    return [Ask(f"About {words(3)}.\n\n", tuple(shots), f"{words(60)}\nAnswer:", draw.randint(0, 3)) for _ in range(150)]


def slow_drop_last(encoder: Encoder, ask: Ask, limit: int) -> tuple[str, int] | None:
    for shots in range(len(ask.shots), -1, -1):
        text = ask.text(shots)
        if len(encoder.encode([text])[0]) + ask.reserve <= limit:
            return text, shots
    return None


def slow_drop_longest(encoder: Encoder, ask: Ask, limit: int) -> tuple[str, int] | None:
    def length(text: str) -> int:
        return encoder.lengths([text])[0]

    text, shots = ask.block, []
    ends = length(ask.header) + length(ask.block)
    if ends <= limit - ask.reserve:
        shots = list(ask.shots)
        while shots and sum(map(length, shots)) >= limit - ask.reserve - ends:
            longest = max(map(length, shots))
            shots = [shot for shot in shots if length(shot) != longest]
        text = ask.header + "".join(shots) + ask.block
    return (text, len(shots)) if len(encoder.encode([text])[0]) + ask.reserve <= limit else None


def test_left_truncation_keeps_the_last_tokens_and_counts_the_others(encoder: Encoder) -> None:
    ask = Ask("Header.\n\n", ("one\n", "two\n"), "Question?", reserve=1)
    (ids,) = encoder.encode([ask.text()])
    (whole,) = cut_left(encoder, [ask], len(ids) + 1)
    (less,) = cut_left(encoder, [ask], len(ids) - 2)
    assert (whole.ids, whole.cut) == (ids, 0)
    assert (less.ids, less.cut, less.shots, less.text) == (ids[3:], 3, 2, ask.text())


def test_shots_are_taken_while_header_and_shots_have_fewer_tokens_than_the_budget(encoder: Encoder) -> None:
    shots = ["one two three\n", "four\n", "five\n"]
    two = encoder.lengths(["H\n" + "".join(shots[:2])])[0]
    assert [within(encoder, "H\n", shots, budget) for budget in (two, two + 1, 10_000, 1)] == [1, 2, 3, 0]


def test_in_a_chat_shots_are_turns_and_the_header_opens_the_first() -> None:
    ask = Ask("H\n", ("s1", "s2"), "Q", number="No. {} ", system="S", turns=(("u1", "a1"), ("u2", "a2")))
    assert ask.text(1) == "H\ns1No. 2 Q"
    assert [(one["role"], one["content"]) for one in ask.messages(1)] == [
        ("system", "S"), ("user", "H\nu1"), ("assistant", "a1"), ("user", "No. 2 Q"),
    ]  # fmt: skip
    assert [one["content"] for one in ask.messages(0)] == ["S", "H\nNo. 1 Q"]


@pytest.mark.parametrize(("fast", "slow"), [(drop_last, slow_drop_last), (drop_longest, slow_drop_longest)])
@pytest.mark.parametrize("limit", [40, 90, 150, 1000])
def test_shots_are_dropped_as_by_the_slow_rule(encoder: Encoder, fast: Callable, slow: Callable, limit: int) -> None:
    asked = asks()
    fitted = fast(encoder, asked, limit)
    expected = [slow(encoder, ask, limit) for ask in asked]
    assert [None if one.reason else (one.text, one.shots) for one in fitted] == expected
    assert all(one.ids == encoder.encode([one.text])[0] for one in fitted if not one.reason)
    if limit == 90:
        assert len({one.shots for one in fitted if one.reason is None}) >= 2
        assert None in expected


def test_the_last_shot_goes_first_and_the_order_of_the_rest_stays(encoder: Encoder) -> None:
    ask = Ask("H\n", ("one\n", "two two two two\n", "three\n"), "Q")
    room = len(encoder.encode([ask.text(3)])[0]) - 1
    assert drop_last(encoder, [ask], room)[0].text == "H\none\ntwo two two two\nQ"
    assert drop_longest(encoder, [ask], room)[0].text == "H\none\nthree\nQ"


def test_equally_long_shots_are_dropped_together(encoder: Encoder) -> None:
    ask = Ask("H\n", ("same same\n", "s\n", "same same\n"), "Q")
    total = sum(encoder.lengths(["H\n", "same same\n", "s\n", "same same\n", "Q"]))
    assert drop_longest(encoder, [ask], total + 1)[0].shots == 3
    assert drop_longest(encoder, [ask], total)[0].text == "H\ns\nQ"


def test_cmmlu_drops_the_header_when_header_and_question_alone_are_too_long(encoder: Encoder) -> None:
    ask = Ask("a long header of many words\n", ("s\n",), "Question?")
    header, block = encoder.lengths([ask.header, ask.block])
    (exact,) = drop_longest(encoder, [ask], header + block)
    (less,) = drop_longest(encoder, [ask], header + block - 1)
    assert (exact.text, exact.header) == (ask.header + ask.block, True)
    assert (less.text, less.header, less.shots) == (ask.block, False, 0)


def test_a_question_that_fits_nowhere_has_a_reason_and_no_tokens(encoder: Encoder) -> None:
    (one,) = drop_last(encoder, [Ask("", (), "word " * 50)], 10)
    assert one.reason == "longer than 10 tokens even without shots"
    assert one.ids == []


def test_mmlu_on_a_real_tokenizer_keeps_as_many_shots_as_the_slow_rule(shared: Path) -> None:
    task = mmlu.load(shared / "data" / "mmlu", 5, None)
    encoder = Encoder(load_tokenizer(shared / "data" / "stories260k"))
    asked = asks_of(task, task.items[::150], "letters", encoder)
    fitted = drop_last(encoder, asked, 512)
    assert [None if one.reason else (one.text, one.shots) for one in fitted] == [slow_drop_last(encoder, ask, 512) for ask in asked]
