"""Who may ask, how often, and under which name they are counted."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelkit.errors import UserError
from playground.guard.addresses import Addresses
from playground.guard.admission import PER_SESSION, Admission
from playground.guard.content_filter import WordFilter
from playground.guard.credentials import Credentials
from playground.guard.rates import Rates


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_lets_a_burst_through_and_fills_up_evenly() -> None:
    clock = Clock()
    rates = Rates(60, burst=3, clock=clock)
    assert [rates.take("a") for _ in range(3)] == [0.0] * 3
    assert rates.take("a") == pytest.approx(1.0)
    assert rates.take("b") == 0.0
    clock.now += 0.5
    assert rates.take("a") == pytest.approx(0.5)
    clock.now += 0.5
    assert rates.take("a") == 0.0


@given(gaps=st.lists(st.floats(0, 20), max_size=60), per_minute=st.integers(1, 120), burst=st.integers(1, 10))
def test_nobody_gets_more_than_the_burst_and_what_time_brings(gaps: list[float], per_minute: int, burst: int) -> None:
    clock = Clock()
    rates, admitted = Rates(per_minute, burst, clock), 0
    for gap in gaps:
        clock.now += gap
        wait = rates.take("a")
        admitted += wait == 0.0
        if wait:
            clock.now += wait + 1e-6
            assert rates.take("a") == 0.0
            admitted += 1
    assert admitted <= burst + (clock.now - Clock.now) * per_minute / 60 + 1e-6


def test_who_only_looks_how_long_to_wait_is_not_counted() -> None:
    rates = Rates(1, clock=lambda: 0.0)
    assert [rates.wait("ann") for _ in range(3)] == [0.0] * 3
    assert rates.take("ann") == 0.0
    assert rates.wait("ann") == rates.take("ann") == 60.0


def test_what_a_session_may_ask_is_less_than_an_address_may() -> None:
    admission = Admission(per_address=PER_SESSION + 1)
    assert all(admission.wait("one", "198.51.100.7") == 0.0 for _ in range(PER_SESSION))
    assert admission.wait("one", "198.51.100.7") > 0
    assert admission.wait("two", "198.51.100.7") == 0.0
    assert admission.wait("three", "198.51.100.7") > 0
    assert admission.wait("four", "198.51.100.8") == 0.0


def test_texts_are_allowed_unless_one_is_on_the_lists() -> None:
    assert Admission().allows("blue moon")
    assert not Admission(words=WordFilter(["blue moon"])).allows("hello", "a blue moon")


def test_addresses_have_names_that_only_this_process_knows() -> None:
    here = Addresses()
    assert here.name("198.51.100.7") == here.name("198.51.100.7") != here.name("198.51.100.8")
    assert here.name("198.51.100.7") != Addresses().name("198.51.100.7")
    assert here.name("2001:db8:1:2::1") == here.name("2001:db8:1:2:ffff::9") != here.name("2001:db8:1:3::1")
    assert here.name("::ffff:198.51.100.7") == here.name("198.51.100.7") != here.name("::ffff:198.51.100.8")
    assert "198" not in here.name("198.51.100.7")
    assert here.name("no address")


def test_credentials_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAYGROUND_AUTH", "ann:s:e;  安:密码 ;")
    monkeypatch.setenv("PLAYGROUND_API_KEY", "key")
    found = Credentials.here()
    assert found.users == (("ann", "s:e"), ("安", "密码"))
    assert found.admits("ann", "s:e")
    assert found.admits("安", "密码")
    assert not found.admits("ann", "密码")
    assert not found.admits("ann:s", "")
    monkeypatch.delenv("PLAYGROUND_AUTH")
    monkeypatch.delenv("PLAYGROUND_API_KEY")
    assert not Credentials.here().guard_api


@pytest.mark.parametrize("told", ["ann", "ann:", ":secret", "ann:secret;bob"])
def test_a_pair_without_a_password_is_refused_rather_than_left_open(told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAYGROUND_AUTH", told)
    with pytest.raises(UserError, match="NAME:PASSWORD"):
        Credentials.here()


def test_the_api_opens_to_its_key_and_to_users_and_to_nobody_else() -> None:
    credentials = Credentials((("ann", "secret"),), "key")
    basic = base64.b64encode(b"ann:secret").decode()
    for header in ("Bearer key", "bearer  key ", "Bearer ann:secret", f"Basic {basic}"):
        assert credentials.opens(header), header
    for header in ("", "Bearer", "Bearer ", "key", "Basic key", "Bearer ann", "Basic %%%", f"Bearer {basic}", "Basic w7Y="):
        assert not credentials.opens(header), header
    assert not Credentials((("ann", "secret"),)).opens("Bearer ")
