"""A built site on the Hugging Face Hub: the figures as a dataset, the page as a static Space."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from leaderboards.site import PLOTLY
from modelkit.errors import EndpointError, UserError

_SPACE = ("index.html", PLOTLY)
_DATASET = ("leaderboard.csv", "leaderboard.json", "leaderboard.parquet")
_NAME = re.compile(r"hf:([\w.-]+/[\w.-]+)")


@dataclass(frozen=True)
class Upload:
    """One repository and what goes into it: files, and a README made here."""

    repository: str
    kind: Literal["dataset", "space"]
    files: tuple[Path, ...]
    readme: str

    @property
    def sizes(self) -> list[tuple[str, int]]:
        """Name and size in bytes of each file that goes."""
        return [("README.md", len(self.readme.encode())), *((file.name, file.stat().st_size) for file in self.files)]


def plan(site: Path, to: str) -> list[Upload]:
    """What publishing *site* sends where. Nothing else in the folder goes.

    :raises UserError: when *to* is no ``hf:ORG/NAME``, or the folder holds no built site.
    """
    named = _NAME.fullmatch(to)
    if not named:
        raise UserError(f"--to {to} names no place: write hf:ORG/NAME.")
    missing = [name for name in (*_SPACE, *_DATASET) if not (site / name).is_file()]
    if missing:
        raise UserError(f"{site} holds no built site, {missing[0]} is missing: make one with `leaderboards build RUNS --out {site}`.")
    repository = named[1]
    title = repository.rpartition("/")[2]
    space = f'---\ntitle: "{title}"\nemoji: 📊\nsdk: static\napp_file: index.html\npinned: false\ndatasets:\n- {repository}\n---\n'
    dataset = (
        "---\nconfigs:\n- config_name: default\n  data_files: leaderboard.parquet\n---\n\n"
        f"# {title}\n\nEvery figure of the leaderboard: a row for each model, task and method.\n"
    )
    return [
        Upload(repository, "dataset", tuple(site / name for name in _DATASET), dataset),
        Upload(repository, "space", tuple(site / name for name in _SPACE), space),
    ]


def upload(uploads: list[Upload], private: bool = False) -> list[str]:
    """Make the repositories where there are none, and send each its files in one commit; returns the commits' addresses.

    :param private: only into repositories that not everybody sees; nothing is sent anywhere when one of them is public already.
    :raises EndpointError: when the Hub refuses or can't be reached.
    """
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    api, done = HfApi(), []
    try:
        for one in uploads:
            sdk = "static" if one.kind == "space" else None
            api.create_repo(one.repository, repo_type=one.kind, private=private, exist_ok=True, space_sdk=sdk)
            if private and not api.repo_info(one.repository, repo_type=one.kind).private:
                raise EndpointError(f"the {one.kind} {one.repository} is there already, and public: make it private, or name another --to.")
        for one in uploads:
            operations = [CommitOperationAdd("README.md", one.readme.encode())]
            operations += [CommitOperationAdd(file.name, str(file)) for file in one.files]
            commit = api.create_commit(one.repository, operations, commit_message="Update the leaderboard", repo_type=one.kind)
            done.append(str(commit.commit_url))
    except LocalTokenNotFoundError:
        raise EndpointError("the Hub needs to know who you are: run `hf auth login`, or set HF_TOKEN.") from None
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        after = f" after {', '.join(done)}" if done else ""
        raise EndpointError(f"publishing failed{after}: {str(error).splitlines()[0]}") from None
    return done
