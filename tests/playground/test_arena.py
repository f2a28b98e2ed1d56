"""The arena as it is served: over HTTP as Gradio's own client drives it, and in the system's Chromium."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from leaderboards.votes.store import Store
from modelkit.errors import UserError
from modelkit.fingerprint import fingerprint
from modelkit.records import Vote
from playground.leaderboard import LiveBoard
from playground.models import Models
from playground.settings import Settings
from playground.training.watch import Trainer, Watches
from playground.ui.arena import WINNERS

if TYPE_CHECKING:
    from playwright.sync_api import Browser

Serve = Callable[..., str]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store."""
    store = Store(f"sqlite:///{tmp_path / 'votes.sqlite'}")
    yield store
    store.close()


@pytest.fixture
def arena(free_port: int, finished_run: Path, models: Models) -> Iterator[Serve]:
    """Serve the page with a store for votes: ``arena(store) -> address``."""
    from playground.ui.app import Services, build, launch

    pages = []

    def start(store: Any) -> str:
        settings = Settings(runs=finished_run.parent, port=free_port, recipe=None)
        trainer = Trainer(settings)
        services = Services(models, trainer, Watches(models, trainer), store=store)
        pages.append(build(settings, services))
        return launch(pages[-1], settings, LiveBoard(models.runs, store, settings.runs))

    yield start
    for page in pages:
        page.close(verbose=False)


def connect(address: str) -> Any:
    from gradio_client import Client  # type: ignore[import-untyped]

    return Client(address, verbose=False)


def play(client: Any, typed: str | None = None) -> list[str]:
    """Begin a battle and let both sides answer; gives what each said at last."""
    if typed is None:
        client.predict("", api_name="/arena_next")
    else:
        client.predict(typed, api_name="/arena_ask")
    jobs = [client.submit(api_name=f"/arena_{side}") for side in "ab"]
    return [str(job.result(timeout=120)) for job in jobs]


def test_a_vote_is_kept_with_who_wrote_what_and_only_then_are_names_told(arena: Serve, store: Store, finished_run: Path) -> None:
    client = connect(arena(store))
    said = play(client, "What is 1 plus 2?")
    before = client.predict(api_name="/arena_settled_b")
    assert [value for value in before if value in said] == said
    assert not re.search(r"\b(Base|SFT|RL)\b|pocket|reward|pg-verdict|pg-bar", str([value for value in before if value not in said]))
    revealed = str(client.predict(api_name="/arena_vote_tie"))
    (vote,) = store.votes()
    titles = {"pocket/base": "Base", "pocket/sft": "SFT", "pocket/rl": "RL"}
    for side in (vote.a, vote.b):
        assert titles[side.checkpoint] in revealed
        assert side.fingerprint == fingerprint(finished_run / side.checkpoint.split("/")[1])
        assert side.messages[0] == {"role": "user", "content": "What is 1 plus 2?"}
        assert side.reward is not None
    assert vote.reward_model == fingerprint(finished_run / "rm")
    assert vote.id in revealed
    assert (vote.winner, vote.blind, vote.status) == ("tie", True, "new")


def test_a_second_vote_and_a_vote_without_replies_are_refused(arena: Serve, store: Store) -> None:
    client = connect(arena(store))
    for winner in WINNERS:
        with pytest.raises(Exception, match="Error|nothing to vote on"):
            client.predict(api_name=f"/arena_vote_{winner}")
    client.predict("", api_name="/arena_next")
    with pytest.raises(Exception, match="Error|both replies"):
        client.predict(api_name="/arena_vote_tie")
    play(client)
    client.predict(api_name="/arena_vote_both_bad")
    with pytest.raises(Exception, match="Error|counted already"):
        client.predict(api_name="/arena_vote_tie")
    assert [vote.winner for vote in store.votes()] == ["both_bad"]


def test_each_visitor_has_battles_and_a_name_of_their_own(arena: Serve, store: Store) -> None:
    address = arena(store)
    for client in (connect(address), connect(address)):
        play(client)
        client.predict(api_name="/arena_vote_tie")
    one, other = store.votes()
    assert one.session != other.session


def test_a_vote_that_could_not_be_kept_reveals_nothing(arena: Serve) -> None:
    class Full:
        def add(self, vote: Vote) -> None:
            raise UserError("the store can't be used: database or disk is full.")

    client = connect(arena(Full()))
    play(client)
    with pytest.raises(Exception, match="Error|disk is full"):
        client.predict(api_name="/arena_vote_tie")


def test_without_a_store_there_is_no_arena(arena: Serve) -> None:
    assert "arena" not in str(connect(arena(None)).view_api(return_format="dict"))


@pytest.fixture
def page(arena: Serve, store: Store, chromium: Browser) -> Iterator[Callable[..., Any]]:
    """Open the arena's tab in a fresh browser: ``page(locale="zh-CN", viewport={…})``. Nothing may go wrong in the console."""
    errors: list[str] = []
    contexts = []
    address = arena(store)

    def visit(**options: Any) -> Any:
        contexts.append(chromium.new_context(**{"locale": "en-US", "viewport": {"width": 1280, "height": 860}, **options}))
        opened = contexts[-1].new_page()
        opened.set_default_timeout(120_000)
        opened.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        opened.on("pageerror", lambda error: errors.append(str(error)))
        opened.goto(address)
        opened.get_by_role("tab").nth(1).click()
        opened.locator("#pg-arena-next").wait_for()
        return opened

    yield visit
    for context in contexts:
        context.close()
    assert errors == []


def voting(page: Any) -> None:
    """Wait until both replies are there."""
    page.locator("#pg-vote-tie:not([disabled])").wait_for()


@pytest.mark.browser
def test_a_battle_is_voted_and_the_next_one_begun_with_the_keyboard_alone(page: Callable[..., Any], store: Store) -> None:
    opened = page()
    assert opened.locator("#pg-vote-a").is_disabled()
    opened.keyboard.press("n")
    voting(opened)
    assert opened.locator("#pg-arena .pg-side b").count() == 0
    asked = opened.locator(".pg-question").inner_text()
    opened.keyboard.press("t")
    opened.locator(".pg-outcome").wait_for()
    assert set(opened.locator("#pg-arena .pg-side b").all_inner_texts()) <= {"Base", "SFT", "RL"}
    assert opened.locator("#pg-arena .pg-reward").count() == 2
    (vote,) = store.votes()
    assert vote.prompt[0]["content"] == asked
    assert vote.id in opened.locator(".pg-outcome").inner_text()
    assert opened.locator("#pg-vote-a").is_disabled()
    opened.keyboard.press("n")
    opened.locator(".pg-outcome").wait_for(state="detached")
    voting(opened)
    opened.keyboard.press("x")
    opened.locator(".pg-outcome").wait_for()
    assert [one.winner for one in store.votes()] == ["tie", "both_bad"]


@pytest.mark.browser
def test_letters_typed_into_a_prompt_are_no_votes(page: Callable[..., Any], store: Store) -> None:
    opened = page()
    opened.keyboard.press("n")
    voting(opened)
    opened.locator("#pg-arena-typed textarea").press_sequentially("a bat <img src=x onerror=alert(1)>")
    assert list(store.votes()) == []
    opened.locator("#pg-arena-ask").click()
    opened.locator(".pg-question", has_text="a bat <img").wait_for()
    voting(opened)
    assert opened.locator("#pg-arena img, .pg-question img").count() == 0
    opened.locator("#pg-vote-both-bad").click()
    opened.locator(".pg-outcome").wait_for()
    assert [vote.prompt[0]["content"] for vote in store.votes()] == ["a bat <img src=x onerror=alert(1)>"]


@pytest.mark.browser
def test_the_arena_speaks_chinese_and_fits_a_phone(page: Callable[..., Any]) -> None:
    opened = page(locale="zh-CN", viewport={"width": 390, "height": 844})
    opened.get_by_text("投票即表示你允许").wait_for()
    opened.locator("#pg-arena-next").click()
    voting(opened)
    opened.locator("#pg-vote-tie").click()
    opened.get_by_text("你的投票已保存为").wait_for()
    assert opened.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_nothing_stands_between_the_tabs(arena: Serve, store: Store) -> None:
    config = connect(arena(store)).config
    kinds = {component["id"]: component["type"] for component in config["components"]}

    def tabs(node: dict[str, Any]) -> Iterator[list[str]]:
        children = node.get("children", [])
        if kinds.get(node["id"]) == "tabs":
            yield [kinds[child["id"]] for child in children]
        for child in children:
            yield from tabs(child)

    assert [set(children) for children in tabs(config["layout"])] == [{"tabitem"}]
