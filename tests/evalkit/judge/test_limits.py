"""Money, pace and memory of asking: a budget holds whatever comes back, a pace spreads requests, a cache survives a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evalkit.judge import limits
from evalkit.judge.cache import Table, key_of
from evalkit.judge.limits import Pace, Prices, Spending, estimated_tokens
from evalkit.models.server import finished
from modelkit.errors import UserError
from tests.evalkit.command import evalkit
from tests.evalkit.judge.conftest import answers
from tests.evalkit.judge.judge_server import NAME, JudgeServer, judging

ROOT = Path(__file__).parents[3]


def test_prices_are_per_million_tokens_and_cached_ones_may_be_cheaper() -> None:
    assert Prices.parse("2,10").cost(1_000_000, 500_000) == pytest.approx(7.0)
    assert Prices.parse("2,10,0.5").cost(1_000_000, 0, cached=400_000) == pytest.approx(1.4)
    for text in ("", "2", "two,ten", "1,2,3,4", "-1,2", "nan,1"):
        with pytest.raises(UserError, match="is no price"):
            Prices.parse(text)


def test_reserved_and_spent_money_never_pass_the_limit() -> None:
    spending = Spending(Prices(1e6, 1e6, 1e6), limit=10.0)
    assert spending.reserve(4.0)
    assert spending.reserve(6.0)
    assert not spending.reserve(0.1)
    spending.settle(4.0, read=1, written=1, cached=0)
    assert spending.cost == 2.0
    assert spending.reserve(2.0)
    assert not spending.reserve(0.1)
    with pytest.raises(UserError, match="--max-cost is no number"):
        Spending(Prices(1.0, 1.0, 1.0), limit=float("nan"))


def test_a_pace_spreads_requests_evenly_and_learns_what_they_took(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(limits.asyncio, "sleep", sleep)
    monkeypatch.setattr(limits.time, "monotonic", lambda: 100.0)
    pace = Pace(tokens_per_minute=600)
    for tokens in (100, 100):
        finished(pace.take(tokens))
    pace.correct(expected=100, taken=40)
    finished(pace.take(1))
    assert waits == pytest.approx([0.0, 10.0, 14.0])
    finished(Pace().take(10**9))  # without a limit nobody waits
    assert len(waits) == 3


def test_chinese_counts_a_token_for_a_character_and_english_a_quarter() -> None:
    assert estimated_tokens([{"role": "user", "content": "汉" * 100}]) - estimated_tokens([{"role": "user", "content": ""}]) == 100
    assert estimated_tokens([{"role": "user", "content": "word" * 100}]) - estimated_tokens([{"role": "user", "content": ""}]) == 100


def test_a_table_is_read_back_and_survives_a_line_that_was_cut(tmp_path: Path) -> None:
    Table(tmp_path, "t").put({"k1": {"text": "一"}, "k2": {"text": "b"}})
    with (tmp_path / "t.jsonl").open("ab") as file:
        file.write(b'{"key": "k3", "te')
    said: list[str] = []
    table = Table(tmp_path, "t", said.append)
    assert table.get("k1") == {"text": "一"}
    assert table.get("k3") is None
    assert "1 damaged lines" in said[0]
    table.put({"k3": {"text": "c"}})
    assert Table(tmp_path, "t").get("k3") == {"text": "c"}


def test_keys_are_by_content_whatever_the_order_of_names() -> None:
    assert key_of({"a": 1, "b": "文"}, [1]) == key_of({"b": "文", "a": 1}, [1])
    assert key_of("a", "b") != key_of("ab")


def test_a_judging_that_was_killed_asks_only_the_rest(tmp_path: Path, prompts: Path) -> None:
    file = answers(tmp_path / "a.jsonl", "a", [f"answer {i}" for i in range(8)])
    slow = JudgeServer()
    slow.script = lambda number, body: time.sleep(0.3)
    with judging(slow) as server:
        arguments = ["judge", "score", "-m", str(file), "-p", str(prompts), "--judge-url", server.url, "--judge-model", NAME]
        arguments += ["--out", str(tmp_path / "out"), "--concurrency", "1"]
        process = subprocess.Popen([sys.executable, "-m", "evalkit", *arguments], cwd=ROOT, stderr=subprocess.DEVNULL, env=dict(os.environ))
        while len(server.asked) < 4:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (tmp_path / "out").exists()
        server.script = lambda number, body: None
        done = evalkit(*arguments)
        assert done.exit_code == 0, done.output
        told = [json.dumps(body["messages"], sort_keys=True) for body in server.asked]
        assert len(set(told)) == 8
        assert len(told) <= 9  # the one under way when it was killed may be asked again
