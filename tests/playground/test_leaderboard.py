"""The leaderboard in its tab: the site's page, made anew when results or votes have changed, in the page's language and colours."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from modelkit import atomic
from modelkit.errors import UserError
from modelkit.records import Vote
from modelkit.run import Run
from playground.leaderboard import LiveBoard, beside
from tests.leaderboards.voting import vote
from tests.playground import fake_run
from tests.playground.browsing import Visit, tab


class Ballot:
    """A store of votes that can be closed."""

    def __init__(self) -> None:
        self.cast: list[Vote] = []
        self.open = True

    def counts(self) -> dict[str, int]:
        return {"new": len(list(self.votes()))}

    def votes(self) -> Iterator[Vote]:
        if not self.open:
            raise UserError("the store can't be reached.")
        yield from self.cast


def evaluated(run: Path, name: str, value: float) -> None:
    """Put a result of the SFT stage into *run*, made when it isn't there."""
    if not run.exists():
        fake_run.create(run)
    score = {"metric": "exact_match", "value": value, "n": 200, "ci95": [value - 0.04, value + 0.04]}
    result = {
        "id": name,
        "model": {"path": "sft", "fingerprint": "sha256:0", "dtype": "fp32"},
        "tasks": {"pocket.answer": {"kind": "answer", "data": "sha256:d", "methods": {"generate": score}}},
        "speed": {"seconds": 1.0, "questions_per_s": 1.0, "tokens_computed": 1},
        "environment": {},
    }
    atomic.write_json(run / "eval" / name / "results.json", result)


def live(runs: Path, votes: Ballot | None = None) -> LiveBoard:
    """A board of the one run called pocket, which rests no longer than a page takes to make."""
    return LiveBoard(lambda: [Run.open(runs / "pocket")], votes, runs)


@pytest.fixture(autouse=True)
def no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages may be made as often as there is something new."""
    monkeypatch.setattr("playground.leaderboard._SHARE", 0)


def test_the_page_is_made_anew_only_when_a_result_or_a_vote_is_new(tmp_path: Path) -> None:
    evaluated(tmp_path / "pocket", "a", 0.5)
    ballot = Ballot()
    board = live(tmp_path, ballot)
    first = board.page()
    assert "50.0 %" in first.html
    assert board.page() is first
    evaluated(tmp_path / "pocket", ".b.77.tmp", 0.75)  # half-made: it will be renamed any moment
    assert board.page() is first
    evaluated(tmp_path / "pocket", "b", 0.75)
    second = board.page()
    assert second.version != first.version
    assert "75.0 %" in second.html
    ballot.cast.append(vote())
    third = board.page()
    assert third.version != second.version
    assert "People" in third.html
    assert "People" not in second.html


def test_a_page_is_not_made_again_before_ten_times_as_long_has_passed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("playground.leaderboard._SHARE", 1_000_000)
    evaluated(tmp_path / "pocket", "a", 0.5)
    board = live(tmp_path)
    first = board.page()
    evaluated(tmp_path / "pocket", "b", 0.75)
    assert board.page() is first


def test_whoever_comes_while_a_page_is_made_gets_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluated(tmp_path / "pocket", "a", 0.5)
    board = live(tmp_path)
    first = board.page()
    evaluated(tmp_path / "pocket", "b", 0.75)
    begun, go_on = threading.Event(), threading.Event()
    make = LiveBoard._board

    def slow(self: LiveBoard) -> Any:
        begun.set()
        go_on.wait(60)
        return make(self)

    monkeypatch.setattr(LiveBoard, "_board", slow)
    other = threading.Thread(target=board.page)
    other.start()
    begun.wait(60)
    assert board.page() is first
    go_on.set()
    other.join(60)
    assert board.page() is not first


def test_a_run_without_results_and_a_store_out_of_reach_are_told(tmp_path: Path) -> None:
    fake_run.create(tmp_path / "pocket")
    ballot = Ballot()
    assert "No results yet" in live(tmp_path, ballot).page().html
    ballot.open = False
    assert "the store can&#39;t be reached." in live(tmp_path, ballot).page().html


def test_visitors_see_the_damage_but_not_where_the_runs_are(tmp_path: Path) -> None:
    evaluated(tmp_path / "pocket", "a", 0.5)
    atomic.write_text(tmp_path / "pocket" / "eval" / "cut" / "results.json", "{")
    html = live(tmp_path).page().html
    assert "pocket/eval/cut/results.json" in html
    assert str(tmp_path) not in html


def test_the_page_its_version_and_the_plots_script_are_served(tmp_path: Path) -> None:
    evaluated(tmp_path / "pocket", "a", 0.5)
    board = live(tmp_path)
    client = TestClient(beside(board))
    assert f'data-version="{board.page().version}"' in client.get("/leaderboard/").text
    assert client.get("/leaderboard/version").text == board.page().version
    assert "javascript" in client.get("/leaderboard/plotly.min.js").headers["content-type"]


@pytest.mark.browser
def test_the_tab_shows_the_page_and_follows_new_results_the_language_and_the_colours(
    serve: Callable[..., str], tmp_path: Path, visit: Visit
) -> None:
    evaluated(tmp_path / "pocket", "a", 0.5)
    page = visit(serve(tmp_path), locale="zh-CN", color_scheme="light")
    tab(page, "leaderboard")
    frame = page.frame_locator("#pg-leaderboard")
    frame.get_by_text("[46.0, 54.0]").wait_for(timeout=60_000)
    assert frame.locator("html").get_attribute("lang") == "zh"
    assert frame.locator("html").get_attribute("data-theme") == "light"
    page.locator("[data-pg-theme]").click()
    frame.locator('html[data-theme="dark"]').wait_for()
    frame.locator("#tab-published").click()
    evaluated(tmp_path / "pocket", "b", 0.75)
    frame.get_by_text("[71.0, 79.0]").wait_for(state="attached", timeout=60_000)
    frame.locator('#tab-published[aria-selected="true"]').wait_for()
    assert frame.locator("html").get_attribute("data-theme") == "dark"
