"""Many visitors on the real page at once: how long they wait for a first token, and whether anything goes wrong.

    python -m benchmarks.visitors --runs DIR [--visitors 50] [--minutes 5] [--think 20] [--threads 2]

DIR is a finished run, or a folder of them; it is copied, since visitors vote. Each visitor does over HTTP what a browser does: loads the
page, keeps its two streams open, asks what is new as often as the page's clocks say. Between questions they read for *think* seconds on
average, the first at a random moment. Three in four questions go to three columns of the chat, one in four is a battle with a vote. A first
token is counted from the click to the first words of a column that the server sends.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import secrets
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from gradio_client.utils import apply_diff  # type: ignore[import-untyped]

from playground.texts import LANGUAGES, t

ROOT = Path(__file__).resolve().parent.parent
MAX_TOKENS = 64
COLUMNS = ("sft", "rl", "base")
QUESTIONS = ("What is the capital of France?", "Say the opposite of hot.", "What is 7 plus 5?", "法国的首都是哪里？", "热的反义词是什么？")


@dataclass
class Seen:
    """What all visitors together have seen; seconds."""

    first: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    loads: list[float] = field(default_factory=list)
    votes: int = 0
    empty: int = 0
    wrong: Counter[str] = field(default_factory=Counter)


@contextmanager
def page(runs: Path, threads: int) -> Iterator[tuple[str, int]]:
    """``python app.py`` in a process of its own: its address and its process id."""
    environment = {**os.environ, "PLAYGROUND_THREADS": str(threads), "OMP_NUM_THREADS": str(threads), "GRADIO_SERVER_PORT": _free()}
    command = [sys.executable, "app.py", "--runs", str(runs), "--no-train"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    ready = re.search(r"http://\S+", process.stdout.readline())
    if ready is None:
        sys.exit(f"`{' '.join(command)}` did not start")
    try:
        yield ready[0].rstrip("/"), process.pid
    finally:
        process.terminate()
        process.wait()


def _free() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


class Visitor:
    """One tab of one person, who has an address of their own."""

    def __init__(self, number: int, address: str, run: str, seen: Seen) -> None:
        self._run, self._seen, self._session = run, seen, secrets.token_hex(6)
        self._random = random.Random(number)
        headers = {"x-forwarded-for": f"198.51.100.{number % 256}", "accept-language": self._random.choice(["en", "zh-CN"])}
        # A browser asks again where the server has just closed an idle connection (after five seconds); this closes it before.
        limits, timeout = httpx.Limits(keepalive_expiry=3), httpx.Timeout(120, pool=None)
        self._http = httpx.AsyncClient(base_url=address, headers=headers, timeout=timeout, limits=limits)
        self._messages: dict[str, asyncio.Queue[dict[str, Any]]] = {}
        self._asked: set[str] = set()
        self._events: dict[str, dict[str, Any]] = {}
        self._states: set[int] = set()
        self._clocks: dict[int, float] = {}

    async def stay(self, until: float, think: float) -> None:
        """Come, look around, ask and vote until the time is up."""
        await asyncio.sleep(self._random.uniform(0, think))
        started = time.perf_counter()
        (await self._http.get("/")).raise_for_status()
        config = (await self._http.get("/config")).json()
        self._events = {one["api_name"]: one for one in config["dependencies"] if one["api_name"]}
        ticks = [(one, target) for one in config["dependencies"] for target, event in one["targets"] if event == "tick"]
        self._clocks = {one["id"]: one["props"]["value"] for one in config["components"] if one["type"] == "timer"}
        self._states = {one["id"] for one in config["components"] if one["type"] == "state"}
        beside = [asyncio.create_task(self._heart()), asyncio.create_task(self._stream())]
        try:
            await self._do("arrive", json.dumps({"key": secrets.token_hex(16), "query": ""}))
            beside += [asyncio.create_task(self._watch(*tick)) for tick in ticks]
            self._seen.loads.append(time.perf_counter() - started)
            while time.monotonic() < until:
                await (self._battle() if self._random.random() < 0.25 else self._chat())
                await asyncio.sleep(self._random.expovariate(1 / think))
        except Exception as error:
            self._wrong(error)
        finally:
            for task in beside:
                task.cancel()
            for ended in await asyncio.gather(*beside, return_exceptions=True):
                if isinstance(ended, Exception):
                    self._wrong(ended)
            await self._http.aclose()

    def _wrong(self, error: Exception) -> None:
        self._seen.wrong[f"{type(error).__name__}: {error}"[:100]] += 1

    async def _chat(self) -> None:
        clicked = time.perf_counter()
        names = [f"{self._run}/{stage}" for stage in COLUMNS]
        own = [0.7, 0.95, MAX_TOKENS, self._random.randrange(1000), 1]
        settings = [*own, 2, "", False, *own * 4]
        await self._do("begin", self._random.choice(QUESTIONS), len(names), *names, None, *settings)
        await asyncio.gather(*(self._listen(f"column_{column + 1}", clicked) for column in range(len(names))))

    async def _battle(self) -> None:
        clicked = time.perf_counter()
        await self._do("arena_next", "")
        await asyncio.gather(*(self._listen(f"arena_{side}", clicked) for side in "ab"))
        await self._do("arena_settled_b")
        await asyncio.sleep(1)
        await self._do("arena_vote_tie")
        self._seen.votes += 1

    async def _listen(self, name: str, clicked: float) -> None:
        """Follow a column's reply to its end, noting when its first words and its last came."""
        output: Any = None
        first = None
        async for message in self._ask(self._events[name]):
            if message["msg"] == "process_generating":
                data = message["output"]["data"]
                output = data if output is None else [apply_diff(old, new) for old, new in zip(output, data, strict=True)]
                if first is None and _words(output[0]):
                    first = time.perf_counter() - clicked
        self._seen.whole.append(time.perf_counter() - clicked)
        if first is not None:
            self._seen.first.append(first)
        elif any(t(language, "reply.empty") in str(output) for language in LANGUAGES):
            self._seen.empty += 1
        else:
            self._seen.wrong[f"{name} said nothing"] += 1

    async def _do(self, name: str, *values: Any) -> None:
        async for _ in self._ask(self._events[name], *values):
            pass

    async def _ask(self, event: dict[str, Any], *values: Any) -> AsyncIterator[dict[str, Any]]:
        """The messages of one event, from its place in the queue to its end."""
        name, rest = event["api_name"], iter(values)
        data = [None if number in self._states else next(rest, None) for number in event["inputs"]]
        body = {"data": data, "fn_index": event["id"], "session_hash": self._session, "event_data": None, "trigger_id": None}
        answer = await self._http.post("/gradio_api/queue/join", json=body)
        if answer.status_code != 200:
            raise RuntimeError(f"{name}: {answer.status_code} {answer.text}")
        asked = answer.json()["event_id"]
        messages = self._messages.setdefault(asked, asyncio.Queue())
        self._asked.add(asked)
        try:
            while (message := await asyncio.wait_for(messages.get(), 120))["msg"] != "process_completed":
                yield message
        finally:
            self._asked.discard(asked)
            del self._messages[asked]
        if not message["success"]:
            raise RuntimeError(f"{name}: {message['output']}")
        for number, value in zip(event["outputs"], message["output"]["data"], strict=False):
            if number in self._clocks and isinstance(value, dict):
                self._clocks[number] = value.get("value", self._clocks[number])

    async def _stream(self) -> None:
        """What the server tells this session, sorted by event. The stream ends with the last event under way, and is opened again."""
        while True:
            if not self._asked:
                await asyncio.sleep(0.005)
                continue
            async with self._http.stream("GET", "/gradio_api/queue/data", params={"session_hash": self._session}) as answer:
                async for line in answer.aiter_lines():
                    message = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {}
                    if "event_id" in message:
                        self._messages.setdefault(message["event_id"], asyncio.Queue()).put_nowait(message)

    async def _heart(self) -> None:
        async with self._http.stream("GET", f"/gradio_api/heartbeat/{self._session}") as answer:
            async for _ in answer.aiter_lines():
                pass

    async def _watch(self, tick: dict[str, Any], clock: int) -> None:
        """Ask again and again what is new, as one of the page's clocks does."""
        chosen = [len(COLUMNS), *[f"{self._run}/{stage}" for stage in COLUMNS]] if tick is self._events["refresh"] else []
        while True:
            await asyncio.sleep(self._clocks[clock])
            async for _ in self._ask(tick, *chosen):
                pass


def _words(shown: Any) -> bool:
    """Whether what a column shows ends in words of a reply, rather than in a notice of what is being waited for."""
    if isinstance(shown, str):
        return bool(shown) and not shown.startswith("*")
    last = shown[-1] if shown else {}
    texts = [part["text"] for part in last.get("content", []) if part.get("type") == "text"]
    return last.get("role") == "assistant" and any(text and not text.startswith("*") for text in texts)


def _memory(process: int) -> float:
    """MiB that a process holds."""
    status = Path(f"/proc/{process}/status")
    found = re.search(r"VmRSS:\s+(\d+)", status.read_text()) if status.exists() else None
    return int(found[1]) / 1024 if found else float("nan")


def _processor_seconds(process: int) -> float:
    """What a process, all of its threads together, has computed so far."""
    stat = Path(f"/proc/{process}/stat")
    fields = stat.read_text().rpartition(") ")[2].split() if stat.exists() else []
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if fields else float("nan")


async def visit(address: str, run: str, visitors: int, minutes: float, think: float) -> Seen:
    """Let them all come."""
    seen, until = Seen(), time.monotonic() + 60 * minutes
    await asyncio.gather(*(Visitor(number, address, run, seen).stay(until, think) for number in range(visitors)))
    return seen


def _row(name: str, seconds: list[float]) -> str:
    if len(seconds) < 2:
        return f"{name:24s} {len(seconds)} measured"
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return f"{name:24s} {len(seconds):7d} {cuts[49]:8.2f} {cuts[94]:8.2f} {max(seconds):8.2f}"


def main() -> None:
    """Start the page, let the visitors come, print what they saw; fails when anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--visitors", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--think", type=float, default=20.0)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    single = (given.runs / "run.json").is_file()
    run = given.runs.name if single else next(file.parent.name for file in sorted(given.runs.glob("*/run.json")))
    with tempfile.TemporaryDirectory() as work:
        copy = Path(work) / "runs"
        shutil.copytree(given.runs, copy / run if single else copy, ignore=shutil.ignore_patterns("state", "*.sqlite*"))
        with page(copy, given.threads) as (address, process):
            before, started = _processor_seconds(process), time.perf_counter()
            seen = asyncio.run(visit(address, run, given.visitors, given.minutes, given.think))
            cores = (_processor_seconds(process) - before) / (time.perf_counter() - started)
            memory = _memory(process)
    print(f"{given.visitors} visitors for {given.minutes:g} min, reading {given.think:g} s on average, {given.threads} threads")
    print(f"{'seconds':24s} {'n':>7s} {'median':>8s} {'p95':>8s} {'max':>8s}")
    for name, seconds in (("page and settings loaded", seen.loads), ("first token of a column", seen.first), ("its last", seen.whole)):
        print(_row(name, seconds))
    print(
        f"empty replies: {seen.empty} · votes: {seen.votes} · memory of the page at the end: {memory:,.0f} MiB · cores it used: {cores:.2f}"
    )
    print(f"errors: {seen.wrong.total()}")
    for what, times in seen.wrong.most_common(10):
        print(f"  {times} × {what}")
    sys.exit(1 if seen.wrong else 0)


if __name__ == "__main__":
    main()
