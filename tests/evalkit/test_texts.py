"""Which alternatives a reply names, in both languages."""

from __future__ import annotations

import pytest

from evalkit.extraction import named, occurring, same_language

CITIES = ["Paris", "Rome", "Oslo"]
DAYS = ["日", "星期日", "星期一", "月"]


@pytest.mark.parametrize(
    ("reply", "alternatives", "found"),
    [
        ("The capital is Paris.", CITIES, {"Paris"}),
        ("the capital is PARIS!", CITIES, {"Paris"}),
        ("Parisian food", CITIES, set()),
        ("Paris, not Rome", CITIES, {"Paris", "Rome"}),
        ("Paris. Yes, Paris.", CITIES, {"Paris"}),
        ("", CITIES, set()),
        ("今天是星期日。", DAYS, {"星期日"}),
        ("今天是星期日，不是日。", DAYS, {"星期日", "日"}),
        ("首都是北京", ["北京", "东京"], {"北京"}),
        ("答案是Paris。", CITIES, {"Paris"}),
        ("New York City", ["New York", "York", "New York City"], {"New York City"}),
        ("It is 12.", ["12", "1", "2"], {"12"}),
        ("It is 1.5, so", ["1", "5", "1.5"], {"1.5"}),
        ("It is 7.", ["7", "17"], {"7"}),
        ("共有1,200个", ["200", "1", "1,200"], {"1,200"}),
        ("Its symbol is Na.", ["Na", "N", "He"], {"Na"}),
        ("he says na", ["Na", "He"], set()),
        ("São Paulo", ["Paulo", "S", "São"], {"Paulo", "São"}),
        ("x", ["", "x"], {"x"}),
        ("C++ is it", ["C++", "C"], {"C++"}),
    ],
)
def test_alternatives_occur_as_wholes(reply: str, alternatives: list[str], found: set[str]) -> None:
    assert occurring(reply, alternatives) == found


def test_what_the_question_mentions_is_not_named_by_repeating_it() -> None:
    assert named("The opposite of hot is cold.", "What is the opposite of hot?", ["hot", "cold", "big"], "cold") == {"cold"}


def test_the_reference_counts_even_when_the_question_mentions_it() -> None:
    assert named("red", "Is blood red or blue?", ["red", "blue"], "red") == {"red"}
    assert named("blue", "Is blood red or blue?", ["red", "blue"], "red") == set()


def test_a_question_that_holds_an_alternative_only_inside_a_longer_one_does_not_mention_it() -> None:
    assert named("是日", "星期日的后一个字是什么？", DAYS, "月") == {"日"}


def test_the_reference_is_known_even_if_the_alternatives_lack_it() -> None:
    assert named("Bern", "Capital?", CITIES, "Bern") == {"Bern"}


@pytest.mark.parametrize(
    ("prompt", "reply", "same"),
    [
        ("What is it?", "A cat.", True),
        ("这是什么？", "一只猫。", True),
        ("这是什么？", "A cat.", False),
        ("What is it?", "猫", False),
        ("2 + 2 = ?", "四", True),
        ("What is 2 + 2?", "4", True),
        ("“cat”用中文怎么说？", "猫", True),
        ("写出 sodium 的化学符号", "Na 是钠的化学符号", True),
    ],
)
def test_a_reply_is_in_the_prompts_language(prompt: str, reply: str, same: bool) -> None:
    assert same_language(prompt, reply) is same
