from __future__ import annotations

import re

import pytest

from playground import texts


def test_both_languages_have_every_text_with_the_same_places_to_fill() -> None:
    for key, (english, chinese) in texts.TEXTS.items():
        assert bool(english) == bool(chinese), key
        assert set(re.findall(r"{\w+}", english)) == set(re.findall(r"{\w+}", chinese)), key


@pytest.mark.parametrize(
    ("header", "language"),
    [
        (None, "en"),
        ("", "en"),
        ("fr", "en"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("en-GB,en;q=0.9,zh;q=0.8", "en"),
        ("fr,en;q=0.5,zh;q=0.7", "zh"),
        ("zh;q=nonsense,en", "en"),
    ],
)
def test_the_preferred_language_wins(header: str | None, language: str) -> None:
    assert texts.language_of(header) == language


def test_durations_read_well() -> None:
    assert texts.duration("en", 95.2) == "1 min 35 s"
    assert texts.duration("zh", 59.4) == "59 秒"
    assert texts.duration("en", -1) == "0 s"


def test_a_stage_of_another_recipe_keeps_its_name() -> None:
    assert texts.stage_name("zh", "rm") == "奖励模型"
    assert texts.stage_name("zh", "orpo") == "orpo"
