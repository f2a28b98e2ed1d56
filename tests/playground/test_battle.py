"""Battles and arenas without a page: what is drawn, in which order things may happen, and what a vote says."""

from __future__ import annotations

import shutil
import threading
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leaderboards.votes.store import Tally
from modelkit.errors import UserError
from modelkit.fingerprint import sha256_of_messages
from modelkit.records import Vote
from playground.arena.battle import Battle, Winner, draw
from playground.arena.visits import Arena, Arenas, contests
from playground.chat.replies import Reply
from playground.models import Models
from playground.prompts import Prompt, queued
from tests.playground.fake_writer import FakeWriter

WINNERS: list[Winner] = ["a", "b", "tie", "both_bad"]
PROMPT = Prompt("What is 1 plus 2?", "en", "sums")
CHECKPOINTS = ["pocket/base", "pocket/sft", "pocket/rl"]
PAIRS = list(combinations(CHECKPOINTS, 2))


class Ballot:
    """Votes in memory; ``broken`` keeps none."""

    def __init__(self, broken: bool = False) -> None:
        self.votes: list[Vote] = []
        self.broken = broken

    def add(self, vote: Vote) -> None:
        if self.broken:
            raise UserError("the store can't be used: disk full.")
        self.votes.append(vote)

    def tally(self, reward_model: str) -> Tally:
        return Tally(sum(vote.agreed is True for vote in self.votes), len(self.votes))


def said(text: str, reward: float | None = None, checkpoint: str = "pocket/sft", **more) -> Reply:
    judge = None if reward is None else "pocket/rm"
    return Reply(checkpoint, **{"phase": "done", "finish": "stop", "text": text, "reward": reward, "judge": judge} | more)


def ready(a: Reply | None = None, b: Reply | None = None) -> Battle:
    begun = Battle.begun("vote-1", PROMPT, draw("visitor", 0, PAIRS))
    return begun.heard(0, a or said("Three.", 1.0), 10.0).heard(1, b or said("Four.", -1.0), 12.0)


def played(arena: Arena, models: Models, typed: str | None = None, rewards: dict[str, float] | None = None) -> None:
    battle = arena.begin(models, typed)
    for side, checkpoint in enumerate(battle.lineup.checkpoints):
        list(arena.answer(side, FakeWriter((checkpoint, "says", "so"), (rewards or {}).get(checkpoint, 0.0))))


@given(st.text(max_size=8), st.integers(2, 5))
def test_every_pair_is_drawn_once_before_any_comes_again_and_the_draw_can_be_repeated(visitor: str, count: int) -> None:
    pairs = list(combinations([f"run/{number}" for number in range(count)], 2))
    for around in range(3):
        numbers = range(around * len(pairs), (around + 1) * len(pairs))
        drawn = [draw(visitor, number, pairs) for number in numbers]
        assert {frozenset(lineup.checkpoints) for lineup in drawn} == {frozenset(pair) for pair in pairs}
        assert drawn == [draw(visitor, number, pairs) for number in numbers]


def test_sides_are_fair_and_both_sample_alike_with_seeds_of_their_own() -> None:
    lineups = [draw("visitor", number, PAIRS[:1]) for number in range(400)]
    sides = Counter(lineup.checkpoints for lineup in lineups)
    assert min(sides.values()) > 160
    assert len({lineup.settings[0].temperature for lineup in lineups}) == 3
    for lineup in lineups:
        a, b = lineup.settings
        assert (a.temperature, a.top_p, a.max_tokens) == (b.temperature, b.top_p, b.max_tokens)
        assert a.seed != b.seed


def test_a_queue_holds_every_prompt_once_and_each_visitor_has_an_order_of_their_own() -> None:
    offered = [Prompt(f"Question {number}?", "en") for number in range(20)]
    orders = [[queued(offered, visitor, number) for number in range(40)] for visitor in ("one", "two")]
    for order in orders:
        assert set(order[:20]) == set(order[20:]) == set(offered)
    assert orders[0][:20] != orders[1][:20]


def test_a_vote_needs_both_replies_and_is_cast_once() -> None:
    begun = Battle.begun("vote-1", PROMPT, draw("visitor", 0, PAIRS))
    half = begun.heard(0, said("Three."), 1.0).heard(1, Reply("pocket/rl", phase="writing", text="Fo"), 2.0)
    for early in (begun, half):
        with pytest.raises(UserError, match="both replies, finished"):
            early.voted("a", 3.0)
    decided = half.heard(1, said("Four."), 4.0).voted("a", 9.5)
    assert (decided.phase, decided.winner, decided.seconds) == ("revealed", "a", 5.5)
    for again in WINNERS:
        with pytest.raises(UserError, match="counted already"):
            decided.voted(again, 10.0)


@pytest.mark.parametrize("broken", [said("", error="too long"), said("Th", finish="cancelled")])
def test_there_is_nothing_to_vote_on_when_a_side_failed_or_was_stopped(broken: Reply) -> None:
    battle = ready(b=broken)
    assert battle.phase == "broken"
    with pytest.raises(UserError):
        battle.voted("a", 20.0)
    assert ready().failed(1, "something went wrong").phase == "broken"


def test_of_two_equal_replies_neither_is_better() -> None:
    same = ready(said("Three."), said("Three."))
    for winner in ("a", "b"):
        with pytest.raises(UserError, match="both said the same"):
            same.voted(winner, 20.0)
    assert same.votes == ("tie", "both_bad")
    assert same.voted("tie", 20.0).winner == "tie"
    assert ready().votes == ("a", "b", "tie", "both_bad")
    assert ready().voted("a", 20.0).votes == ()


def test_a_reply_that_has_finished_says_no_more() -> None:
    assert ready().heard(0, said("Changed my mind."), 20.0) == ready()


@settings(max_examples=200)
@given(
    st.lists(
        st.one_of(
            st.tuples(
                st.just("heard"), st.sampled_from([0, 1]), st.sampled_from(["writing", "done"]), st.sampled_from(["stop", "cancelled"])
            ),
            st.tuples(st.just("voted"), st.sampled_from(WINNERS)),
        ),
        max_size=12,
    )
)
def test_whatever_happens_in_whatever_order_a_vote_is_of_two_finished_replies_and_never_changes(events) -> None:
    battle, now = Battle.begun("vote-1", PROMPT, draw("visitor", 0, PAIRS)), 0.0
    for event in events:
        now, before = now + 1.0, battle
        if event[0] == "heard":
            _, side, phase, finish = event
            battle = battle.heard(side, Reply("x", phase=phase, text=f"{side}", finish=finish if phase == "done" else None), now)
        else:
            try:
                battle = battle.voted(event[1], now)
            except UserError:
                assert battle == before
                assert before.phase != "voting"
            else:
                assert before.phase == "voting"
        if before.winner:
            assert battle == before
        if battle.winner:
            assert all(reply.phase == "done" and reply.finish == "stop" for reply in battle.replies)
            assert battle.seconds is not None
            assert battle.seconds >= 0


def test_a_vote_says_all_that_is_needed_to_repeat_and_to_judge_it() -> None:
    battle = ready(said("Three.", 1.5, "pocket/sft", tokens=3, seconds=0.2), said("Four.", float("nan"), "pocket/rl")).voted("a", 15.0)
    vote = battle.vote("visitor", 1700.0, lambda checkpoint: f"sha256:{checkpoint}")
    sampling = battle.lineup.settings
    assert (vote.id, vote.session, vote.time, vote.seconds, vote.winner, vote.blind) == ("vote-1", "visitor", 1700.0, 3.0, "a", True)
    assert (vote.language, vote.category, vote.status) == ("en", "sums", "new")
    assert vote.sampling == {"temperature": sampling[0].temperature, "top_p": 0.95, "max_tokens": 96}
    assert vote.reward_model == "sha256:pocket/rm"
    assert vote.a.messages == [{"role": "user", "content": PROMPT.text}, {"role": "assistant", "content": "Three."}]
    assert (vote.a.sha256, vote.a.fingerprint) == (sha256_of_messages(vote.a.messages), "sha256:pocket/sft")
    assert (vote.a.reward, vote.a.tokens, vote.a.seconds, vote.a.finish, vote.a.seed) == (1.5, 3, 0.2, "stop", sampling[0].seed)
    assert (vote.b.reward, vote.agreed) == (None, None)  # a reward that is no number is none
    with pytest.raises(UserError, match="nobody has voted"):
        ready().vote("visitor", 1700.0, str)


def test_an_arena_goes_from_prompt_to_prompt_and_counts_agreement(models: Models) -> None:
    arena, ballot = Arena("visitor"), Ballot()
    rewards = dict(zip(CHECKPOINTS, (-1.0, 0.0, 1.0), strict=True))
    for number in range(3):
        played(arena, models, rewards=rewards)
        assert arena.battle
        a, b = (rewards[checkpoint] for checkpoint in arena.battle.lineup.checkpoints)
        right: Winner = "a" if a > b else "b"
        wrong: Winner = "b" if a > b else "a"
        arena.choose(right if number else wrong, models, ballot)
    assert arena.tally == Tally(2, 3)
    assert len({vote.id for vote in ballot.votes}) == 3
    assert {vote.session for vote in ballot.votes} == {"visitor"}
    assert len({vote.prompt[0]["content"] for vote in ballot.votes}) == 3


def test_nothing_is_revealed_and_the_vote_can_be_cast_again_when_it_was_not_kept(models: Models) -> None:
    arena, ballot = Arena(), Ballot(broken=True)
    played(arena, models)
    with pytest.raises(UserError, match="disk full"):
        arena.choose("a", models, ballot)
    assert arena.battle
    assert arena.battle.phase == "voting"
    assert arena.vote is None
    ballot.broken = False
    arena.choose("a", models, ballot)
    assert arena.battle.phase == "revealed"


@pytest.mark.parametrize("stage", ["base", "sft", "rm"])
def test_weights_that_came_after_the_replies_get_no_vote(stage: str, finished_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished_run, tmp_path / "pocket")
    for unused in ("rl", "critic"):
        shutil.rmtree(run / unused, ignore_errors=True)
    models, arena, ballot = Models([tmp_path], 1 << 30), Arena(), Ballot()
    played(arena, models)
    config = run / stage / "config.json"
    config.write_text(config.read_text() + "\n")  # as a new checkpoint under the old name
    with pytest.raises(UserError, match="trained anew"):
        arena.choose("a", models, ballot)
    assert (ballot.votes, arena.vote) == ([], None)
    played(arena, models)
    arena.choose("a", models, ballot)
    assert len(ballot.votes) == 1


def test_of_many_clicks_at_once_one_counts(models: Models) -> None:
    arena, ballot = Arena(), Ballot()
    played(arena, models)
    refused: list[UserError] = []

    def click(winner: Winner) -> None:
        try:
            arena.choose(winner, models, ballot)
        except UserError as error:
            refused.append(error)

    clicks = [threading.Thread(target=click, args=(winner,)) for winner in WINNERS * 4]
    for one in clicks:
        one.start()
    for one in clicks:
        one.join()
    assert (len(ballot.votes), len(refused)) == (1, 15)


def test_going_on_ends_what_is_being_written_and_its_rest_is_not_heard(models: Models) -> None:
    arena = Arena()
    arena.begin(models)
    old = arena.answer(0, FakeWriter())
    next(old)
    fresh = arena.begin(models, "Something else entirely")
    assert list(old) == []
    assert arena.battle == fresh
    assert fresh.prompt == Prompt("Something else entirely", "en")


def test_a_side_answers_once_and_a_visitor_who_leaves_ends_it(models: Models) -> None:
    arena = Arena()
    arena.begin(models)
    writing = arena.answer(0, FakeWriter())
    next(writing)
    assert list(arena.answer(0, FakeWriter())) == []
    writing.close()
    assert arena.battle
    assert arena.battle.phase == "broken"


@pytest.mark.parametrize(
    ("typed", "why"), [("  ", "type a message"), ("x" * 8001, "8,001 characters"), ("a\0b", "no text"), ("\ud800", "no text")]
)
def test_a_prompt_of_ones_own_is_checked(typed: str, why: str, models: Models) -> None:
    arena = Arena()
    with pytest.raises(UserError, match=why):
        arena.begin(models, typed)
    assert arena.battle is None


def test_the_queue_is_of_one_language_when_asked(models: Models) -> None:
    arena = Arena()
    assert {arena.begin(models, language="zh").prompt.language for _ in range(9)} == {"zh"}


def test_checkpoints_of_one_run_meet_and_no_reward_model_does(models: Models, finished_run: Path, tmp_path: Path) -> None:
    assert contests(models) == PAIRS
    for name in ("one", "other"):
        shutil.copytree(finished_run, tmp_path / name)
    several = contests(Models([tmp_path], 1 << 30))
    assert len(several) == 6
    assert all(a.split("/")[0] == b.split("/")[0] for a, b in several)


def test_without_two_checkpoints_one_sentence_says_so(tmp_path) -> None:
    with pytest.raises(UserError, match="needs two checkpoints"):
        Arena().begin(Models([tmp_path], 1 << 30))


def test_each_session_has_an_arena_until_it_leaves() -> None:
    arenas = Arenas()
    first = arenas.of("one")
    assert arenas.of("one") is first
    assert arenas.of("two").visitor != first.visitor
    arenas.leave("one")
    assert arenas.of("one") is not first
    arenas.leave("never seen")


def test_a_thousand_pages_without_a_battle_push_nobody_out(models: Models) -> None:
    arenas = Arenas()
    first = arenas.of("one")
    first.begin(models, "What is 1 plus 2?")
    for visitor in range(3000):
        arenas.of(f"visitor {visitor}")
    assert arenas.of("one") is first
