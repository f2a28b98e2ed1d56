from __future__ import annotations

import math
import re

from playground.chat.replies import Candidate, Reply
from playground.chat.reply_card import Neighbour, reply_card
from playground.reward_bar import difference, spread

EVIL = "<img src=x onerror=alert(1)>"
DONE = Reply(
    "r/sft", phase="done", text="x", finish="length", tokens=20, seconds=2.0, reward=1.234, percentile=91.6, judge="r/rm", dropped=2
)
THREE = tuple(
    Candidate(text, "stop", reward, percentile) for text, reward, percentile in (("a", 2.0, 90.0), (EVIL, 1.0, 40.0), ("a", 2.0, 90.0))
)


def test_a_card_shows_percentile_first_and_the_raw_reward_on_hover() -> None:
    html = reply_card("en", DONE)
    for part in ("above 92 % of SFT replies", 'title="reward +1.23', "width:91.6%", "20 tokens", "10 tokens/s", "length limit", "oldest 2"):
        assert part in html
    assert "高于 92% 的 SFT 回复" in reply_card("zh", DONE)


def test_a_reply_is_compared_with_its_neighbour_only_by_the_same_reward_model() -> None:
    other = Reply("r/base", phase="done", text="y", reward=0.234, judge="r/rm")
    assert "+1.00 vs Base" in reply_card("en", DONE, Neighbour(other, "Base"))
    assert "vs Base" not in reply_card("en", DONE, Neighbour(Reply("q/base", reward=0.0, judge="q/rm"), "Base"))


def test_a_difference_is_the_probability_of_a_bradley_terry_model() -> None:
    html = difference("en", 1.0, 0.0, "SFT")
    assert f"probability {100 / (1 + math.exp(-1)):.0f} %" in html
    assert "pg-up" in html
    assert "pg-down" in difference("en", -1e9, 1e9, "SFT")
    assert "pg-even" in difference("en", 1.0, 1.001, "SFT")


def test_samples_are_ranked_escaped_counted_and_can_be_picked() -> None:
    html = reply_card("en", Reply("r/rm", phase="done", text="a", reward=2.0, candidates=THREE), pick="4.2")
    assert "<img" not in html
    assert re.findall(r'data-pg-pick="([\d.]+)" aria-pressed="(\w+)"', html) == [("4.2.0", "true"), ("4.2.1", "false")]
    assert "× 2" in html
    assert "<button" not in reply_card("en", Reply("r/rm", phase="done", text="a", candidates=THREE))


def test_a_picked_sample_is_marked() -> None:
    html = reply_card("zh", Reply("r/rm", phase="done", text="a", candidates=THREE).picking(1), pick="0.0")
    assert re.findall(r'aria-pressed="(\w+)"', html) == ["false", "true"]
    assert "你从 3 个样本中的选择" in html


def test_the_spread_has_a_tick_for_every_sample() -> None:
    html = spread("en", [90.0, 40.0, 10.0], 1)
    assert html.count("<i") == 3
    assert "from above 10 % to above 90 % of SFT replies, the middle one above 40 %" in html
    assert 'class=pg-now style="left:40.0%"' in html
