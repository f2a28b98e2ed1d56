"""``leaderboards votes`` as an operator uses it, and the whole way from votes to a reward model that agrees more."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from leaderboards.cli import app
from leaderboards.votes.export import held_out
from leaderboards.votes.store import Store
from modelkit.records import Vote
from tests.leaderboards.voting import vote


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The store that the commands find by themselves."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PLAYGROUND_STORE", raising=False)
    (tmp_path / "runs").mkdir()
    return Store(f"sqlite:///{tmp_path / 'runs' / 'votes.sqlite'}")


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["votes", *arguments])


def fill(store: Store, count: int = 40) -> list[Vote]:
    """Votes that always prefer the shorter reply."""
    votes = [vote(number, "Yes.", "Yes, and so on and on.", rewards=(-1.0, 1.0)) for number in range(count)]
    for one in votes:
        store.add(one)
    return votes


def test_the_operator_lists_accepts_rejects_and_deletes(store: Store) -> None:
    fill(store, 3)
    store.add(vote(7, seconds=0.0, winner="tie"))
    listed = call("list", "--last", "2")
    assert listed.exit_code == 0
    assert "vote-7" in listed.output
    assert "vote-1" not in listed.output
    assert "new: 4 · accepted: 0 · rejected: 0" in listed.output
    accepted = call("accept", "--new")
    assert accepted.output.splitlines() == ["accepted: 3", "held back, too fast: 1 (the first: vote-7)"]
    assert call("accept", "vote-7").output == "accepted: 1\n"
    assert call("reject", "vote-7", "vote-0").output == "rejected: 2\n"
    assert call("delete", "vote-7", "vote-8").output == "deleted: 1; not there: 1\n"
    assert "accepted: 2" in call("list", "--status", "accepted").output


def test_each_part_is_exported_and_what_is_left_out_is_counted(store: Store, tmp_path: Path) -> None:
    votes = fill(store)
    store.add(vote(99, winner="tie", prompt=votes[0].prompt[0]["content"]))
    call("accept", "--new")
    rows = {}
    for part in ("train", "held-out", "all"):
        done = call("export", "--out", f"{part}.jsonl", "--part", part)
        assert done.exit_code == 0, done.output
        rows[part] = (tmp_path / f"{part}.jsonl").read_text().splitlines()
        assert f"{len(rows[part])} preference rows ({part})" in done.output
    assert "no row for 1 votes: tie" in done.output
    assert len(rows["held-out"]) == sum(map(held_out, votes))
    assert sorted(rows["train"] + rows["held-out"]) == sorted(rows["all"])
    assert call("export", "--out", "votes.jsonl", "--as", "votes").output.startswith("41 votes")
    assert call("export", "--out", "chats.jsonl", "--as", "conversations").output.startswith("0 conversations")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["list", "--store", "missing.sqlite"], "no store at"),
        (["accept"], "say which votes"),
        (["accept", "--new", "vote-1"], "say which votes"),
        (["accept", "vote-1"], "no vote vote-1"),
        (["agreement", "-m", "none"], "none of these votes"),
    ],
)
def test_what_can_not_be_done_is_said_in_one_sentence(store: Store, arguments: list[str], said: str) -> None:
    done = call(*arguments)
    assert done.exit_code == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_what_a_visitor_wrote_can_not_move_the_cursor(store: Store) -> None:
    store.add(vote(1, prompt="\x1b[2Jgone \u202e\x07 [red]x"))
    listed = call("list").output
    assert "gone" in listed
    assert "[red]x" in listed
    assert not set(listed) & {"\x1b", "\u202e", "\x07"}


@pytest.mark.slow
def test_a_reward_model_trained_on_votes_agrees_with_people_more_than_before(store: Store, tmp_path: Path) -> None:
    from tests.playground import fake_run
    from trainers.cli import app as trainers

    run = tmp_path / "runs" / "pocket"
    fake_run.make_run(run)
    votes = fill(store, 60)
    call("accept", "--new", "--per-prompt", "99")
    call("export", "--out", "people.jsonl")
    checked = CliRunner().invoke(trainers, ["data", "check", "people.jsonl"])
    assert checked.exit_code == 0
    assert "preference, from messages" in checked.output
    words = ["rm", "-m", str(run / "sft"), "--data", "people.jsonl", "--out", "runs/people", "--set", "steps=10", "--set", "lr=1e-3"]
    trained = CliRunner().invoke(trainers, words)
    assert trained.exit_code == 0, trained.output
    done = call("agreement", "-m", str(run / "rm"), "-m", "runs/people/rm", "--out", "rows.jsonl")
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    judged = {name: [row for row in rows if row["model"] == name] for name in (str(run / "rm"), "runs/people/rm")}
    held = {one.id for one in votes if held_out(one)}
    assert all({row["vote"] for row in some} == held for some in judged.values())
    before, after = (sum(row["agreed"] for row in some) for some in judged.values())
    assert after == len(held) > before
    assert all((row["chosen"] > row["rejected"]) == row["agreed"] for row in rows)
    assert "100.0%" in done.output
    assert "too few votes to tell" in done.output
