"""The store of votes, on SQLite and on a PostgreSQL server that the tests start."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy

from leaderboards.votes.acceptance import Rules
from leaderboards.votes.store import SCHEMA, Store, Tally, address
from modelkit.chat import Message
from modelkit.errors import UserError
from modelkit.records import Conversation
from tests.leaderboards import postgres
from tests.leaderboards.voting import REWARD_MODEL, vote

ROOT = Path(__file__).resolve().parents[2]
WRITER = """
import sys
from leaderboards.votes.store import Store
from tests.leaderboards.voting import vote
store = Store(sys.argv[1])
for number in range(int(sys.argv[2]), int(sys.argv[3])):
    store.add(vote(number))
    print(number, flush=True)
"""


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    """The URL of a PostgreSQL server."""
    programs = postgres.binaries()
    if programs is None:
        pytest.skip("PostgreSQL isn't installed (apt-get install postgresql)")
    with postgres.server(programs) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty store."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'votes.sqlite'}"
        return
    given = request.getfixturevalue("postgresql")
    yield given
    engine = sqlalchemy.create_engine(given)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE IF EXISTS votes, conversations, about")
    engine.dispose()


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    """An empty store."""
    store = Store(url)
    yield store
    store.close()


def conversation(**more: str) -> Conversation:
    messages = [Message(role="user", content=more.pop("prompt", "Hi")), Message(role="assistant", content="Hello.")]
    given = {"id": "chat-1", "session": "s", "consent": "Keep this chat.", "checkpoint": "pocket/sft", "fingerprint": "sha256:0"}
    return Conversation(**(given | more), time=1.0, messages=messages)


def writer(url: str, start: int, end: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, url, str(start), str(end)]
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True)


def test_a_vote_comes_back_as_it_was_given(store: Store) -> None:
    given = [
        vote(1, "巴黎。🗼", "a \0 byte and 'quotes'; DROP TABLE votes; --", category="capitals", language="zh"),
        vote(2, rewards=None, winner="both_bad", seconds=None, blind=False),
    ]
    for one in given:
        store.add(one)
    assert list(store.votes()) == given
    assert store.youngest(1) == given[1:]
    assert store.counts() == {"new": 2}


def test_a_vote_can_not_be_counted_twice(store: Store) -> None:
    store.add(vote(1))
    with pytest.raises(UserError, match="counted already"):
        store.add(vote(1, winner="b"))
    assert list(store.votes()) == [vote(1)]


def test_ids_are_accepted_rejected_and_deleted(store: Store) -> None:
    for number in range(4):
        store.add(vote(number))
    assert store.accept(["vote-0", "vote-1"]) == 2
    assert store.accept(["vote-1"]) == 0
    assert store.reject(["vote-1", "vote-2"]) == 2
    assert [one.id for one in store.votes("accepted")] == ["vote-0"]
    assert store.counts() == {"accepted": 1, "rejected": 2, "new": 1}
    with pytest.raises(UserError, match="no vote vote-9"):
        store.accept(["vote-3", "vote-9"])
    assert store.counts()["new"] == 1
    assert store.delete(["vote-0", "vote-9"]) == 1
    assert [one.id for one in store.votes()] == ["vote-1", "vote-2", "vote-3"]


def test_new_votes_are_accepted_by_the_rules(store: Store) -> None:
    for number in range(5):
        store.add(vote(number, session="eager"))
    found = store.accept_new(Rules(per_session=3))
    assert (found.accepted, found.held_back) == (["vote-0", "vote-1", "vote-2"], {"session full": ["vote-3", "vote-4"]})
    assert store.counts() == {"accepted": 3, "new": 2}
    assert store.accept_new(Rules(per_session=3)).accepted == []


def test_the_tally_counts_blind_votes_with_rewards_that_nobody_rejected(store: Store) -> None:
    store.add(vote(1))
    store.add(vote(2, winner="b"))
    store.add(vote(3, rewards=(1.0, 1.0)))
    others = [vote(4, winner="tie"), vote(5, rewards=None), vote(6, blind=False), vote(7, reward_model="sha256:another"), vote(8)]
    for one in others:
        store.add(one)
    store.reject(["vote-8"])
    assert store.tally(REWARD_MODEL) == Tally(agreed=1, n=3)
    assert store.tally("sha256:none") == Tally(0, 0)


def test_a_conversation_replaces_its_earlier_state_and_needs_consent(store: Store) -> None:
    store.keep(conversation())
    store.keep(conversation(prompt="Hi again"))
    assert [one.messages[0]["content"] for one in store.conversations()] == ["Hi again"]
    with pytest.raises(ValueError, match="consent"):
        conversation(consent="")
    assert store.delete(["chat-1"]) == 1
    assert list(store.conversations()) == []


def test_one_can_read_all_votes_while_others_are_added(store: Store) -> None:
    for number in range(1200):
        store.add(vote(number))
    reading = store.votes()
    first = next(reading)
    store.add(vote(5000))
    assert [first.id, *(one.id for one in reading)] == [f"vote-{number}" for number in range(1200)]


def test_a_store_that_too_many_use_at_once_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leaderboards.votes.store._BUSY_SECONDS", 0.05)
    store = Store(f"sqlite:///{tmp_path / 'votes.sqlite'}")
    store.add(vote(1))
    with pytest.raises(UserError, match="too many are using it at once"):
        _ = [next(reading) for reading in [store.votes() for _ in range(50)]]
    store.close()


def test_many_processes_and_threads_write_at_once_and_no_vote_is_lost(url: str) -> None:
    writers = [writer(url, start, start + 20) for start in (0, 20, 40)]
    store = Store(url)  # all of them may find that there are no tables yet
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(store.add, [vote(number) for number in range(60, 100)]))
    for process in writers:
        process.communicate(timeout=300)
        assert process.returncode == 0
    assert {one.id for one in store.votes()} == {f"vote-{number}" for number in range(100)}
    store.close()


def test_what_was_thanked_for_survives_kill_9(url: str) -> None:
    process = writer(url, 0, 10_000)
    assert process.stdout
    thanked = [int(process.stdout.readline()) for _ in range(25)]
    process.send_signal(signal.SIGKILL)
    thanked += [int(line) for line in process.stdout.read().splitlines()]
    process.wait(timeout=60)
    store = Store(url)
    kept = [one.id for one in store.votes()]
    store.close()
    assert kept[: len(thanked)] == [f"vote-{number}" for number in thanked]
    assert len(kept) <= len(thanked) + 1


def test_a_store_of_another_version_is_left_alone(url: str) -> None:
    Store(url).close()
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE about SET schema = {SCHEMA + 1}")
    engine.dispose()
    with pytest.raises(UserError, match=f"has schema {SCHEMA + 1}, this version reads {SCHEMA}"):
        Store(url)


def test_tables_of_another_program_are_not_filled(url: str) -> None:
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE votes (candidate VARCHAR)")
    engine.dispose()
    with pytest.raises(UserError, match="already exists"):
        Store(url)


def test_what_is_deleted_is_gone_from_the_files(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'votes.sqlite'}")
    store.add(vote(1, a="a secret that somebody typed"))
    store.keep(conversation(prompt="a secret that somebody typed"))
    assert any(b"a secret" in file.read_bytes() for file in tmp_path.iterdir())
    store.delete(["vote-1", "chat-1"])
    assert not any(b"a secret" in file.read_bytes() for file in tmp_path.iterdir())
    store.close()


def test_a_deletion_that_a_reader_holds_up_says_so_and_is_finished_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leaderboards.votes.store._BUSY_SECONDS", 0.05)
    store = Store(f"sqlite:///{tmp_path / 'votes.sqlite'}")
    for number in range(2):
        store.add(vote(number, a="a secret that somebody typed"))
    reading = store.votes()
    next(reading)
    with pytest.raises(UserError, match="deleted: 2, but the log of .* delete them again"):
        store.delete(["vote-0", "vote-1"])
    assert [one.id for one in reading] == ["vote-1"]
    assert store.delete(["vote-0", "vote-1"]) == 0
    assert not any(b"a secret" in file.read_bytes() for file in tmp_path.iterdir())
    store.close()


def test_every_field_of_a_record_has_a_column_and_none_is_about_the_person(tmp_path: Path) -> None:
    Store(f"sqlite:///{tmp_path / 'votes.sqlite'}").close()
    columns = {
        table: {row[1] for row in sqlite3.connect(tmp_path / "votes.sqlite").execute(f"PRAGMA table_info({table})")}
        for table in ("votes", "conversations")
    }
    assert columns["votes"] - {"agreed"} == set(type(vote()).model_fields)
    assert columns["conversations"] == set(Conversation.model_fields)
    assert not any(word in name for table in columns.values() for name in table for word in ("ip", "address", "agent", "user", "email"))


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("nonsense://", "no database's URL"),
        ("://", "no database's URL"),
        ("postgresql+psycopg://votes:secret@127.0.0.1:1/none", "can't be used"),
        ("oracle+cx_oracle://x", "pip install"),
        ("sqlite:////proc/none/votes.sqlite", "can't be used"),
    ],
)
def test_a_store_that_can_not_be_opened_is_named_in_one_sentence(place: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as raised:
        Store(place)
    assert "secret" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_no_database_is_not_touched(tmp_path: Path) -> None:
    file = tmp_path / "votes.sqlite"
    file.write_text("shopping list\n" * 100)
    with pytest.raises(UserError, match="not a database"):
        Store(f"sqlite:///{file}")
    assert file.read_text() == "shopping list\n" * 100
    with pytest.raises(UserError, match="no store at"):
        Store(f"sqlite:///{tmp_path / 'missing.sqlite'}", create=False)
    assert not (tmp_path / "missing.sqlite").exists()


def test_the_store_is_named_by_an_option_then_the_environment_then_the_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PLAYGROUND_STORE", raising=False)
    assert address(None, tmp_path) == f"sqlite:///{tmp_path}/votes.sqlite"
    monkeypatch.setenv("PLAYGROUND_STORE", "postgresql+psycopg://host/db")
    assert address(None, tmp_path) == "postgresql+psycopg://host/db"
    assert address(f"{tmp_path}/mine.sqlite", tmp_path) == f"sqlite:///{tmp_path}/mine.sqlite"
