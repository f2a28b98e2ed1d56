"""What goes to the Hub, and what is said when it doesn't; the Hub itself is played."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest
import yaml
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError
from typer.testing import CliRunner

from leaderboards.build import Leaderboard
from leaderboards.cli import app
from leaderboards.collect import collect
from leaderboards.publish import plan
from tests.leaderboards.conftest import choice

FORBIDDEN: Any = httpx.Response(403, request=httpx.Request("POST", "https://hub.example"))


class Hub:
    """Remembers what it is given, or refuses."""

    given: dict[tuple[str, str], dict[str, bytes]] = {}
    made: list[dict[str, Any]] = []
    refusal: Exception | None = None
    public: set[str] = set()

    def create_repo(self, repository: str, **how: Any) -> None:
        if self.refusal:
            raise self.refusal
        self.made.append({"repository": repository, **how})

    def repo_info(self, repository: str, repo_type: str) -> Any:
        return type("Info", (), {"private": repo_type not in self.public})

    def create_commit(self, repository: str, operations: list[Any], commit_message: str, repo_type: str) -> Any:
        files = {}
        for one in operations:
            with one.as_file() as file:
                files[one.path_in_repo] = file.read()
        self.given[repository, repo_type] = files
        return type("Commit", (), {"commit_url": f"https://hub.example/{repo_type}s/{repository}"})


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> type[Hub]:
    """A Hub in place of the real one."""
    played = type("Played", (Hub,), {"given": {}, "made": [], "refusal": None, "public": set()})
    monkeypatch.setattr("huggingface_hub.HfApi", played)
    return played


@pytest.fixture
def site(tmp_path: Path, write_result) -> Path:
    """A built site, with a file beside it that is nobody's business."""
    write_result(tmp_path / "results" / "a", {"mmlu@hendrycks": {**choice(0.5, unscored=3), "shots": 5}})
    Leaderboard.of(collect([tmp_path / "results"])).write(tmp_path / "site")
    (tmp_path / "site" / "secret.txt").write_text("not for others")
    return tmp_path / "site"


def publish(site: Path, *more: str) -> Any:
    return CliRunner().invoke(app, ["publish", str(site), "--to", "hf:org/board", *more])


def test_figures_go_into_a_dataset_and_the_page_into_a_static_space(site: Path, hub: type[Hub]) -> None:
    done = publish(site, "--private")
    assert done.exit_code == 0, done.output
    assert {kind: sorted(files) for (_, kind), files in hub.given.items()} == {
        "dataset": ["README.md", "leaderboard.csv", "leaderboard.json", "leaderboard.parquet"],
        "space": ["README.md", "index.html", "plotly.min.js"],
    }
    assert hub.given["org/board", "space"]["index.html"] == (site / "index.html").read_bytes()
    assert [(one["repo_type"], one["private"], one["space_sdk"]) for one in hub.made] == [
        ("dataset", True, None),
        ("space", True, "static"),
    ]
    head = yaml.safe_load(hub.given["org/board", "space"]["README.md"].decode().split("---")[1])
    assert (head["sdk"], head["app_file"], head["datasets"]) == ("static", "index.html", ["org/board"])
    assert done.output.splitlines()[-1] == "published: https://hub.example/spaces/org/board"


def test_private_figures_never_go_into_a_repository_that_is_public_already(site: Path, hub: type[Hub]) -> None:
    hub.public = {"space"}
    done = publish(site, "--private")
    assert done.exit_code != 0
    assert "the space org/board is there already, and public" in done.stderr
    assert hub.given == {}
    assert publish(site).exit_code == 0


def test_a_dry_run_names_what_would_go_and_sends_nothing(site: Path, hub: type[Hub]) -> None:
    done = publish(site, "--dry-run")
    assert "secret.txt" not in done.output
    assert f"{(site / 'index.html').stat().st_size:,} bytes  index.html" in done.output
    assert (hub.given, hub.made) == ({}, [])


@pytest.mark.parametrize(
    ("refusal", "expected"),
    [
        (LocalTokenNotFoundError("no token"), "hf auth login"),
        (HfHubHTTPError("403 Forbidden", response=FORBIDDEN), "403 Forbidden"),
        (OSError("no route to host"), "no route to host"),
        (HFValidationError("Cannot have -- or .. in repo_id: 'org/a..b'."), "Cannot have -- or .."),
    ],
)
def test_a_hub_that_refuses_is_told_in_one_sentence(site: Path, hub: type[Hub], refusal: Exception, expected: str) -> None:
    hub.refusal = refusal
    done = publish(site)
    assert done.exit_code != 0
    assert expected in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_name_of_digits_is_a_title_all_the_same(site: Path) -> None:
    [_, space] = plan(site, "hf:org/2026")
    assert yaml.safe_load(space.readme.split("---")[1])["title"] == "2026"


def test_a_folder_without_a_site_is_refused(tmp_path: Path, hub: type[Hub]) -> None:
    done = publish(tmp_path)
    assert (done.exit_code, "holds no built site" in done.stderr) == (2, True)


def test_csv_json_and_parquet_hold_the_same_figures(site: Path) -> None:
    table, parquet = pd.read_csv(site / "leaderboard.csv"), pd.read_parquet(site / "leaderboard.parquet")
    [record] = json.loads((site / "leaderboard.json").read_text())["figures"]
    for name in ("model", "task", "protocol", "value", "n", "unscored", "shots", "chance"):
        assert table[name][0] == parquet[name][0] == record[name]
