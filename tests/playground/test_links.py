from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from playground.chat.links import read_link, write_link
from playground.chat.settings import ChatSettings, Setting

NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_./", min_size=1, max_size=20)
HUNDREDTHS = st.integers(1, 100).map(lambda value: value / 100)
SETTINGS = st.builds(
    ChatSettings,
    temperature=HUNDREDTHS,
    top_p=HUNDREDTHS,
    max_tokens=st.integers(1, 512),
    seed=st.integers(0, 2**53 - 1),
    n=st.integers(1, 16),
    best_of=st.integers(1, 16),
)


@given(
    st.lists(NAMES, min_size=1, max_size=4).map(tuple),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=80).map(str.strip),
    SETTINGS,
    st.one_of(st.none(), st.tuples(*[SETTINGS] * 4)),
)
def test_a_link_brings_back_the_whole_setting(
    models: tuple[str, ...], prompt: str, shared: ChatSettings, own: tuple[ChatSettings, ...] | None
) -> None:
    found = read_link(write_link(Setting(models, prompt, shared, own)))
    assert found is not None
    assert (found.models, found.prompt) == (models, prompt)
    for column in range(len(models)):
        assert found.of(column) == (own[column] if own else shared)


def test_a_link_names_only_what_is_not_as_usual() -> None:
    assert write_link(Setting(("pocket/sft", "pocket/rl"), "1 + 2 = ?")) == "?models=pocket/sft,pocket/rl&prompt=1+%2B+2+%3D+%3F"
    assert "temperature=0" in write_link(Setting(shared=ChatSettings(temperature=0)))


def test_columns_may_differ_and_the_last_number_holds_for_the_rest() -> None:
    setting = read_link("?models=a,b&temperature=0,1&system=Be+kind.")
    assert setting is not None
    assert [setting.of(column).temperature for column in range(4)] == [0, 1, 1, 1]
    assert setting.of(3).system == "Be kind."


@pytest.mark.parametrize(
    "query",
    ["?temperature=99&n=1000&seed=-1&max_tokens=a&top_p=nan", "?models=a&seed=inf", "?models=a&temperature=,,&best_of=", "?models=a,,"],
)
def test_what_is_out_of_bounds_is_left_as_usual(query: str) -> None:
    setting = read_link(query)
    assert setting is not None
    assert {setting.of(column) for column in range(4)} == {ChatSettings()}


def test_an_address_that_says_nothing_about_the_page_is_no_link() -> None:
    for query in ("", "?", "?__theme=dark", "?models=a" + "&x=1" * 20_000):
        assert read_link(query) is None
    many = read_link("?models=" + ",".join("abcdefgh") + "&prompt=" + "x" * 9000)
    assert many is not None
    assert len(many.models) == 4
    assert len(many.prompt) == 8000
