"""Which votes the rules hold back, and why."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from leaderboards.votes.acceptance import Rules, reading_seconds, sort_out
from modelkit.records import Vote
from tests.leaderboards.voting import vote


def held(votes: list[Vote], **rules: float) -> dict[str, list[str]]:
    return sort_out(votes, Rules(**rules)).held_back  # type: ignore[arg-type]


def test_a_sound_vote_is_accepted_whatever_it_says() -> None:
    votes = [vote(number, winner=winner) for number, winner in enumerate(("a", "b", "tie", "both_bad"))]
    assert sort_out(votes, Rules()).accepted == [one.id for one in votes]


def test_each_rule_holds_back_what_it_is_for() -> None:
    long = "All work and no play makes Jack a dull boy. " * 40
    assert held([vote(1, blind=False)]) == {"not blind": ["vote-1"]}
    assert held([vote(1, seconds=None)]) == {"untimed": ["vote-1"]}
    assert held([vote(1, a=long, seconds=9.0)]) == {"too fast": ["vote-1"]}
    assert held([vote(1, a=long, seconds=60.0)]) == {}
    assert held([vote(number, session="s") for number in range(3)], per_session=2) == {"session full": ["vote-2"]}
    assert held([vote(number, prompt="Same?") for number in range(3)], per_prompt=2) == {"prompt full": ["vote-2"]}


def test_a_session_that_votes_again_on_the_same_two_replies_is_a_duplicate_in_either_order() -> None:
    same: dict[str, Any] = {"session": "s", "prompt": "Same?"}
    votes = [vote(1, "x", "y", **same), vote(2, "x", "y", **same), vote(3, "x", "y", prompt="Same?"), vote(4, "x", "z", **same)]
    swapped = vote(5, **same).model_copy(update={"a": votes[0].b, "b": votes[0].a})
    assert held([*votes, swapped]) == {"duplicate": ["vote-2", "vote-5"]}


def test_what_was_accepted_before_counts_and_what_was_rejected_does_not() -> None:
    def earlier(status: str) -> list[Vote]:
        return [vote(1, session="s", status=status), vote(2, session="s")]

    assert held(earlier("accepted"), per_session=1) == {"session full": ["vote-2"]}
    assert held(earlier("rejected"), per_session=1) == {}


def test_a_chinese_reply_takes_as_long_to_read_as_a_latin_one_of_four_times_the_characters() -> None:
    assert reading_seconds(vote(1, "巴黎是法国的首都", "")) == reading_seconds(vote(1, "x" * 32, ""))


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),  # session
            st.integers(0, 3),  # prompt
            st.sampled_from(["new", "accepted", "rejected"]),
            st.sampled_from([None, 0.0, 9.0]),
            st.sampled_from(["x", "y"]),
        ),
        max_size=30,
    ),
    st.integers(1, 4),
    st.integers(1, 4),
)
def test_every_new_vote_is_either_accepted_or_held_back_and_no_cap_is_exceeded(rows, per_session: int, per_prompt: int) -> None:
    votes = [
        vote(number, a=a, session=f"s{session}", prompt=f"p{prompt}", status=status, seconds=seconds)
        for number, (session, prompt, status, seconds, a) in enumerate(rows)
    ]
    found = sort_out(votes, Rules(per_session, per_prompt))
    judged = [*found.accepted, *(one for ids in found.held_back.values() for one in ids)]
    assert sorted(judged) == sorted(one.id for one in votes if one.status == "new")
    for cap, key in ((per_session, lambda one: one.session), (per_prompt, lambda one: one.prompt[-1]["content"])):
        for name in {key(one) for one in votes}:
            before = sum(one.status == "accepted" and key(one) == name for one in votes)
            now = sum(one.id in found.accepted and key(one) == name for one in votes)
            assert now == 0 or before + now <= cap
