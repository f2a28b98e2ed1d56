"""Votes in a private dataset, with a hub that is a folder."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import httpx
import pytest

from leaderboards.votes.store import Store
from modelkit.errors import UserError
from modelkit.records import Conversation
from playground.hosting.vote_sync import VoteSync
from tests.leaderboards.voting import vote

Server = Callable[[str], tuple[Store, VoteSync]]


class Hub:
    """As much of ``HfApi`` as a scheduler of commits asks for; its only dataset lies in *folder*."""

    def __init__(self, folder: Path, private: bool = True, broken: bool = False) -> None:
        self.folder, self.private, self.broken, self.commits = folder, private, broken, 0
        self._threads = ThreadPoolExecutor(1)

    def create_repo(self, repo_id: str, **_: Any) -> SimpleNamespace:
        if self.broken:
            raise OSError("Connection refused.")
        self.folder.mkdir(exist_ok=True)
        return SimpleNamespace(repo_id=repo_id)

    def dataset_info(self, repo_id: str) -> SimpleNamespace:
        return SimpleNamespace(private=self.private)

    def snapshot_download(self, repo_id: str, **_: Any) -> str:
        copy = self.folder.with_name(f"copy-{time.monotonic_ns()}")
        shutil.copytree(self.folder, copy)
        return str(copy)

    def create_commit(self, operations: list[Any], **_: Any) -> None:
        if self.broken:
            raise OSError("Connection refused.")
        self.commits += 1
        for operation in operations:
            file = self.folder / operation.path_in_repo
            file.parent.mkdir(parents=True, exist_ok=True)
            with operation.as_file() as content:
                file.write_bytes(content.read())

    def run_as_future(self, job: Callable[[], Any]) -> Future[Any]:
        return self._threads.submit(job)


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    return Hub(tmp_path / "hub")


@pytest.fixture
def server(tmp_path: Path, hub: Hub) -> Iterator[Server]:
    """A server that has an empty disk: ``server(name) -> its store and what keeps it``."""
    stores = []

    def start(name: str) -> tuple[Store, VoteSync]:
        stores.append(Store(f"sqlite:///{tmp_path / name}.sqlite"))
        return stores[-1], VoteSync(stores[-1], "somebody/votes", tmp_path / name, hub)  # type: ignore[arg-type]

    yield start
    for store in stores:
        store.close()


def ids(store: Store) -> list[str]:
    return sorted(vote.id for vote in store.votes())


def test_votes_outlive_the_disks_of_the_servers_that_took_them(server: Server, hub: Hub) -> None:
    store, sync = server("one")
    store.add(vote(1))
    store.keep(Conversation(id="c", time=0.0, session="s", consent="yes", checkpoint="p/sft", fingerprint="", messages=[]))
    sync.close()
    store, sync = server("two")
    assert ids(store) == ["vote-1"]
    assert [conversation.id for conversation in store.conversations()] == ["c"]
    store.add(vote(2))
    sync.close()
    store, sync = server("three")
    assert ids(store) == ["vote-1", "vote-2"]
    sync.close()
    assert len(list((hub.folder / "votes").iterdir())) == 2


def test_nothing_new_makes_no_commit_and_what_was_deleted_goes(server: Server, hub: Hub) -> None:
    store, sync = server("one")
    sync.trigger().result()
    assert hub.commits == 0
    store.add(vote(1))
    store.add(vote(2))
    for _ in range(2):
        sync.trigger().result()
    assert hub.commits == 1
    store.delete(["vote-1"])
    sync.close()
    assert hub.commits == 2
    (file,) = (hub.folder / "votes").iterdir()
    assert "vote-2" in file.read_text(encoding="utf-8")
    assert "vote-1" not in file.read_text(encoding="utf-8")


def test_a_line_that_is_no_vote_is_left_out(server: Server, hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
    file = hub.folder / "votes" / "x.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text(f'{{"id": "0"}}\n{vote(1).model_dump_json()}\n', encoding="utf-8")
    store, sync = server("one")
    sync.close()
    assert ids(store) == ["vote-1"]
    assert "x.jsonl:1 is no vote" in caplog.text


def test_a_dataset_that_is_public_or_out_of_reach_is_one_sentence(server: Server, hub: Hub) -> None:
    hub.private = False
    with pytest.raises(UserError, match="is public"):
        server("one")
    hub.broken = True
    with pytest.raises(UserError, match="Connection refused; check its name and HF_TOKEN"):
        server("two")


@pytest.mark.parametrize(("error", "said"), [(httpx.ConnectError("no such host"), "no such host"), (httpx.ReadTimeout(""), "ReadTimeout")])
def test_a_network_that_is_down_is_one_sentence(
    server: Server, hub: Hub, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    monkeypatch.setattr(hub, "dataset_info", Mock(side_effect=error))
    with pytest.raises(UserError, match=f"{said}; check its name"):
        server("one")


def test_a_hub_that_is_gone_at_the_end_stops_nobody(server: Server, hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
    store, sync = server("one")
    sync.trigger().result()
    store.add(vote(1))
    hub.broken = True
    sync.close()
    assert "could not be pushed" in caplog.text
