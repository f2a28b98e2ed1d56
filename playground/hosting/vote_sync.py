"""What people gave, on a machine whose disk doesn't last: fetched from a private dataset at the start, put there every few minutes.

Each process writes files of its own, so nothing that another has put there is ever overwritten; together they are the store.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import httpx
from huggingface_hub import CommitInfo, CommitScheduler, HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
from pydantic import BaseModel

from leaderboards.votes.store import Store
from modelkit import atomic
from modelkit.errors import UserError
from modelkit.records import Conversation, Vote

EVERY_MINUTES = 5.0
_LAST_PUSH_SECONDS = 20.0
_log = logging.getLogger(__name__)
_Record = TypeVar("_Record", bound=BaseModel)


class VoteSync(CommitScheduler):
    """Keeps *dataset* up to date with *store* until it is closed.

    :param folder: where this process' files lie before they are pushed.
    :raises UserError: when the dataset can't be reached or written, or is public.
    """

    def __init__(self, store: Store, dataset: str, folder: Path, api: HfApi | None = None) -> None:
        self._store, self._name = store, secrets.token_hex(6)
        api = api or HfApi()
        try:
            api.create_repo(dataset, repo_type="dataset", private=True, exist_ok=True)
            if not api.dataset_info(dataset).private:
                raise UserError(f"the dataset {dataset} is public, and votes hold what people typed: make it private.")
            earlier = Path(api.snapshot_download(dataset, repo_type="dataset", allow_patterns=["votes/*.jsonl", "conversations/*.jsonl"]))
            self._fetched = self._restore(earlier)
            super().__init__(repo_id=dataset, repo_type="dataset", folder_path=folder, every=EVERY_MINUTES, private=True, hf_api=api)
        except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, httpx.HTTPError, OSError) as error:
            complaint = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".:")
            raise UserError(f"votes can't be kept in the dataset {dataset}: {complaint}; check its name and HF_TOKEN.") from None

    def push_to_hub(self) -> CommitInfo | None:
        """Put there what is new."""
        for kind, records in (("votes", self._store.votes()), ("conversations", self._store.conversations())):
            lines = [record.model_dump_json() + "\n" for record in records if record.id not in self._fetched]
            file, text = self.folder_path / kind / f"{self._name}.jsonl", "".join(lines)
            if text != (file.read_text(encoding="utf-8") if file.exists() else ""):
                atomic.write_text(file, text)
        return super().push_to_hub()

    def close(self) -> None:
        """Push a last time, if that takes no more than a few seconds."""
        try:
            self.trigger().result(_LAST_PUSH_SECONDS)
        except Exception as error:
            _log.error("the last votes could not be pushed to %s: %s", self.repo_id, error)
        self.stop()

    def _restore(self, folder: Path) -> set[str]:
        """Take earlier files into the store; the ids of what was in them."""
        known = {vote.id for vote in self._store.votes()}
        votes = {vote.id: vote for vote in _read(folder / "votes", Vote)}
        for vote in votes.values():
            if vote.id not in known:
                with suppress(UserError):  # another server has just fetched it, too
                    self._store.add(vote)
        conversations = {conversation.id: conversation for conversation in _read(folder / "conversations", Conversation)}
        for conversation in conversations.values():
            self._store.keep(conversation)
        _log.info("%d votes and %d conversations were fetched", len(votes), len(conversations))
        return votes.keys() | conversations.keys()


def _read(folder: Path, record: type[_Record]) -> Iterator[_Record]:
    for file in sorted(folder.glob("*.jsonl")):
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            try:
                yield record.model_validate_json(line)
            except ValueError:
                _log.warning("%s:%d is no %s and was left out", file.name, number, record.__name__.lower())
