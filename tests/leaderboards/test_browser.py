"""The built site as a person uses it, from a file, in the system's Chromium: every control does what it says, and nothing complains."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from leaderboards.build import Leaderboard
from leaderboards.collect import collect
from tests.leaderboards.conftest import choice
from tests.leaderboards.voting import vote

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser

CATEGORIES = {name: {"n": 50, "accuracy": share} for name, share in (("<b>STEM</b>", 0.5), ("humanities", 0.25), ("other", 0.75))}


@pytest.fixture
def site(tmp_path: Path, make_run, write_result) -> Path:
    """A site of two runs, three tasks and forty votes."""
    prints = {"sft": "sha256:s", "rl": "sha256:r"}
    for run in (make_run(tmp_path / "runs" / name) for name in ("one", "two")):
        for place, (stage, mark) in enumerate(prints.items()):
            tasks = {"mmlu@hendrycks": choice(0.4 + 0.2 * place, categories=CATEGORIES), "pocket.choice": choice(0.9 - 0.1 * place)}
            write_result(run.evaluations() / stage, tasks, stage, mark + ("" if run.path.name == "one" else "2"))
    ballot = []
    for number in range(40):
        one = vote(number, winner="b" if number % 3 else "a")
        sides = [side.model_copy(update={"fingerprint": mark}) for side, mark in zip((one.a, one.b), prints.values(), strict=True)]
        ballot.append(one.model_copy(update={"a": sides[0], "b": sides[1]}))
    Leaderboard.of(collect([tmp_path / "runs"]), ballot).write(tmp_path / "site")
    return tmp_path / "site"


@pytest.fixture
def look(chromium: Browser, site: Path) -> Iterator[Any]:
    """Open the site: ``look(hash, locale="zh-CN", …)`` → a page. Nothing may leave the machine or be complained about."""
    trouble: list[str] = []
    pages = []

    def open_page(view: str = "", **options: Any) -> Any:
        page = chromium.new_page(**{"locale": "en-GB", "color_scheme": "light", **options})
        pages.append(page)
        page.on("console", lambda message: trouble.append(message.text))
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("request", lambda request: None if request.url.startswith(("file:", "data:", "blob:")) else trouble.append(request.url))
        page.goto((site / "index.html").as_uri() + view)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert trouble == []


def rows(page: Any) -> list[str]:
    return list(page.locator("#scores tbody tr:visible th").all_inner_texts())


def test_every_tab_opens_in_both_languages_both_colours_and_on_a_phone(look) -> None:
    for options in ({}, {"locale": "zh-CN", "color_scheme": "dark"}, {"viewport": {"width": 390, "height": 844}}):
        page = look(**options)
        for tab in page.get_by_role("tab").all():
            tab.click()
            name = tab.get_attribute("aria-controls")
            assert page.locator("main > section:visible").count() == 1
            assert page.locator(f"#{name}").inner_text().strip()
            assert page.url.endswith(f"#tab={name}")
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_rows_are_filtered_columns_chosen_and_the_address_keeps_both(look) -> None:
    page = look()
    assert [name for name in rows(page) if "quoted" not in name] == ["one · RL", "two · RL", "one · SFT", "two · SFT"]
    page.locator("#scores .filter").fill("two")
    assert rows(page) == ["two · RL", "two · SFT"]
    page.locator("#scores .columns").select_option("mmlu")
    assert page.locator("#scores thead th:visible").count() == 4
    page.reload()
    assert rows(page) == ["two · RL", "two · SFT"]
    assert page.locator("#scores thead th:visible").count() == 4
    page.locator("#scores .columns").select_option("")
    page.locator("#scores .filter").fill("")
    assert page.locator("#scores thead th:visible").count() == 5
    assert len(rows(page)) > 4


def test_another_run_s_stages_are_chosen_and_the_choice_outlives_a_reload(look) -> None:
    page = look("#tab=stages")
    page.locator("#stages .choose").select_option("grid-stages-two")
    assert page.locator("#stages .grid:visible h2").inner_text() == "two"
    page.reload()
    assert page.locator("#stages .grid:visible h2").inner_text() == "two"


@pytest.mark.parametrize(("kind", "start"), [("png", b"\x89PNG"), ("svg", b"<svg"), ("csv", b"trace,label,x,y,low,high\n")])
def test_every_plot_is_saved_as_a_file(look, tmp_path: Path, kind: str, start: bytes) -> None:
    page = look("#tab=plots")
    figures = page.locator("[data-plot]")
    assert figures.count() >= 3
    for figure in figures.all():
        figure.scroll_into_view_if_needed()
        figure.locator(".plot svg").first.wait_for()
        with page.expect_download() as waited:
            figure.locator(f'[data-save="{kind}"]').click()
        assert waited.value.suggested_filename == f"{figure.get_attribute('data-plot')}.{kind}"
        saved = tmp_path / waited.value.suggested_filename
        waited.value.save_as(saved)
        assert saved.read_bytes().startswith(start)


def test_tags_in_names_are_text_in_plots_and_in_their_files(look, tmp_path: Path) -> None:
    page = look("#tab=plots")
    figure = page.locator("#plot-categories-0")
    figure.scroll_into_view_if_needed()
    figure.locator(".plot svg .xtick").first.wait_for()
    assert "<b>STEM</b>" in figure.locator(".xtick text").all_text_contents()
    with page.expect_download() as waited:
        figure.locator('[data-save="csv"]').click()
    waited.value.save_as(tmp_path / "saved.csv")
    assert ",<b>STEM</b>," in (tmp_path / "saved.csv").read_text()


def test_plots_and_texts_follow_the_language_and_the_colours(look) -> None:
    page = look("#tab=plots")
    legend = page.locator("#plot-radar-0 .angularaxistick text, #plot-radar-0 .angularaxistick")
    page.locator("#plot-radar-0").scroll_into_view_if_needed()
    page.locator("#plot-radar-0 .plot svg").first.wait_for()
    assert "humanities" in " ".join(legend.all_text_contents())
    page.locator("#language").click()
    page.locator("#plot-radar-0").scroll_into_view_if_needed()
    page.locator("#plot-radar-0").get_by_text("人文").first.wait_for()
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.locator("#theme").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != ground
