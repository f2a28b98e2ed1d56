"""What the arena says after a vote, in both languages, with everything from outside escaped."""

from __future__ import annotations

import pytest

from leaderboards.votes.store import Tally
from playground.arena.battle import Battle, Lineup
from playground.arena.reveal import heading, outcome, question, rate, state
from playground.chat.settings import ChatSettings
from playground.prompts import Prompt
from playground.texts import Language
from tests.leaderboards.voting import vote

ALL = Tally(40, 50)


@pytest.mark.parametrize(
    ("more", "english", "chinese"),
    [
        ({}, "agrees with you", "同意你的看法"),
        ({"winner": "b"}, "prefers A", "更喜欢 A"),
        ({"winner": "tie"}, "You had no preference; the reward model prefers A", "你没有偏好"),
        ({"rewards": (1.0, 1.0)}, "both the same reward", "相同的奖励"),
        ({"rewards": None}, "no reward model", "没有奖励模型"),
    ],
)
def test_the_reward_model_s_opinion_is_said_in_a_sentence(more, english: str, chinese: str) -> None:
    given = vote(1, **more)
    assert english in outcome("en", given, Tally(1, 1), ALL)
    assert chinese in outcome("zh", given, Tally(1, 1), ALL)
    assert "vote-1" in outcome("en", given, Tally(0, 0), None)


def test_a_rate_comes_with_its_interval_and_only_of_enough_votes() -> None:
    assert rate("en", Tally(40, 50)) == "<b>80 %</b> [67, 89] · 40 of 50 votes"
    assert "%" not in rate("en", Tally(29, 29))
    assert "too few" in rate("en", Tally(29, 29))
    assert "票数太少" in rate("zh", Tally(3, 4))


@pytest.mark.parametrize("language", ["en", "zh"])
def test_names_and_prompts_are_escaped(language: Language) -> None:
    settings = (ChatSettings(), ChatSettings(seed=1))
    battle = Battle.begun("<i>", Prompt("<script>alert(1)</script>", "en"), Lineup(("a", "b"), settings))
    said = question(battle) + heading(battle, 0, "<b>SFT") + state(language, battle)
    assert "<script>" not in said
    assert "&lt;b&gt;SFT" in said
    assert "<i>" not in outcome(language, vote(1, id="<i>"), ALL, ALL)


def test_a_heading_names_nobody_until_it_is_told_who() -> None:
    assert heading(None, 0) == heading(None, 0, "")
    assert "SFT" in heading(None, 1, "SFT")
