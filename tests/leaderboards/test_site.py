from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest

from leaderboards import views
from leaderboards.board import Board, make_board
from leaderboards.build import Leaderboard
from leaderboards.collect import collect
from leaderboards.site import Section, Site
from leaderboards.site import page as site_page
from leaderboards.wording import same
from tests.leaderboards.conftest import choice


def page(board: Board, damaged: tuple[str, ...] = ()) -> str:
    """A page of the overview alone."""
    return site_page(Site([Section("scores", same("Scores"), [views.overview(board)])], damaged))


class Tags(HTMLParser):
    """The tags of a page with their attributes, and the texts between them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())


@pytest.fixture
def board(tmp_path: Path, make_run, write_result):
    run = make_run(tmp_path / "pocket")
    write_result(run.evaluations() / "a", {"pocket.choice": choice(0.25)}, "base", "sha256:b")
    write_result(run.evaluations() / "b", {"pocket.choice": choice(0.9, unscored=3), "mmlu": choice(0.3)}, "sft", "sha256:s")
    return make_board(collect([run.path]))


def test_the_page_shows_values_intervals_and_stage_titles_in_both_languages(board) -> None:
    texts = Tags(page(board)).texts
    assert {"pocket · SFT", "90.0 % ★", "[85.0, 95.0]", "3 unscored", "chance 25.0 %", "–"} <= set(texts)
    assert {"pocket · 监督微调", "3 题未评分", "随机 25.0 %"} <= set(texts)


def test_the_page_loads_nothing_from_elsewhere(board) -> None:
    html = page(board)
    assert all(name not in attributes for _, attributes in Tags(html).tags for name in ("src", "href"))
    assert "//" not in html.replace("</", "")
    assert "@import" not in html
    assert "url(" not in html


def test_no_text_from_a_result_or_a_run_becomes_markup(tmp_path: Path, make_run, write_result) -> None:
    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
    run = make_run(tmp_path / "pocket")
    run.info.stages[1].title["en"] = evil
    type(run).create(run.path, run.info)
    write_result(run.evaluations() / "a", {evil: choice(0.5)}, "sft", f"sha256:{evil}")
    write_result(tmp_path / "results" / "b", {"t": choice(0.5)}, evil, "sha256:other", dtype=evil)
    html = page(make_board(collect([run.path, tmp_path / "results"])), damaged=(f"{evil} is no result file.",))
    parsed = Tags(html)
    assert evil not in html
    assert sum(tag == "script" for tag, _ in parsed.tags) == 2
    assert not any(tag == "img" or "onerror" in attributes for tag, attributes in parsed.tags)


def test_files_that_could_not_be_read_are_listed(board) -> None:
    assert "results/x is no result file." in Tags(page(board, ("results/x is no result file.",))).texts


@pytest.mark.browser
def test_a_click_on_a_head_sorts_and_the_button_changes_the_language(board, tmp_path: Path, chromium) -> None:
    (tmp_path / "index.html").write_text(page(board), encoding="utf-8")
    tab = chromium.new_page(locale="en-GB", viewport={"width": 390, "height": 800})
    complaints: list[str] = []
    tab.on("console", lambda message: complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.goto((tmp_path / "index.html").as_uri())

    def names() -> list[str]:
        return tab.locator("tbody tr:not(.quoted) th").all_inner_texts()

    assert sorted(names()) == ["pocket · BASE", "pocket · SFT"]
    tab.locator("thead button").nth(3).click()
    assert names() == ["pocket · SFT", "pocket · BASE"]
    assert tab.locator("thead th").nth(3).get_attribute("aria-sort") == "descending"
    tab.locator("thead button").nth(3).click()
    assert names() == ["pocket · BASE", "pocket · SFT"]
    tab.locator("#language").click()
    assert names() == ["pocket · 基座", "pocket · 监督微调"]
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    assert not complaints


def test_a_build_writes_the_page_the_script_and_the_figures_and_says_what_changed(tmp_path: Path, make_run, write_result) -> None:
    run = make_run(tmp_path / "pocket")
    write_result(run.evaluations() / "a", {"pocket.choice": choice(0.25)}, "base", "sha256:b")
    out = tmp_path / "site"
    written = Leaderboard.of(collect([run.path])).write(out)
    assert sorted(file.name for file in written) == sorted(file.name for file in out.iterdir())
    write_result(run.evaluations() / "a", {"pocket.choice": choice(0.5)}, "base", "sha256:b")
    found = Leaderboard.of(collect([run.path]), last=out / "leaderboard.json")
    changed = found.sections[-1].grids[0].rows
    assert [[field.lines[0].en for field in row.fields if field] for row in changed] == [
        ["pocket.choice · perplexity · 0-shot", "changed", "0.2500", "0.5000", "0.2500"]
    ]


def test_the_columns_that_rank_stand_first(tmp_path: Path, make_run, write_result) -> None:
    for name in ("one", "two", "six"):
        tasks = {"own": {**choice(0.5), "data": f"sha256:{name}"}, "common": choice(0.5)}
        write_result(make_run(tmp_path / name).evaluations() / name, tasks, "sft", f"sha256:{name}")
    grid = views.overview(make_board(collect([tmp_path])))
    assert [head.lines[0].en for head in grid.heads] == ["Model", "Rank", "Over chance", "common", "own", "own", "own"]
    assert [[field.lines[0].en if field else "–" for field in row.fields[2:]] for row in grid.rows] == [
        ["50.0 % ★", "50.0 %", "–", "–"],
        ["50.0 % ★", "–", "50.0 %", "–"],
        ["50.0 % ★", "–", "–", "50.0 %"],
    ]


def test_a_score_by_another_reward_model_is_new_and_changes_none(tmp_path: Path, write_result) -> None:
    def reward(judge: str, value: float) -> dict[str, object]:
        method = {"value": value, "n": 9, "metric": "reward"}
        return {"kind": "reward", "data": "sha256:d", "methods": {"reward": method}, "reward_model": f"sha256:{judge}"}

    write_result(tmp_path / "results" / "one", {"pocket.reward": reward("one", 0.5)})
    Leaderboard.of(collect([tmp_path / "results"])).write(tmp_path / "site")
    write_result(tmp_path / "results" / "two", {"pocket.reward": reward("two", 0.25)})
    found = Leaderboard.of(collect([tmp_path / "results"]), last=tmp_path / "site" / "leaderboard.json")
    assert [row.fields[1].lines[0].en for row in found.sections[-1].grids[0].rows if row.fields[1]] == ["new"]
