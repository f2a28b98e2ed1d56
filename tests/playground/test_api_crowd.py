"""What one client does to the others' answers: nothing."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import httpx
import pytest
from starlette.types import Message, Scope

from modelkit import checkpoint, reward
from playground.api import chat as chats
from playground.api.app import create
from playground.api.service import Service
from playground.api.tokens import TokenTexts
from playground.guard.content_filter import WordFilter
from playground.models import Models
from tests.playground.asking import ASK, CHAT, COMPLETE, SCORE, asking, chat

CROWD = 60
"""More than there are threads for everything else."""


def test_those_who_wait_for_a_model_keep_nobody_else_from_an_answer(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    models.language(models.entry("pocket/rl"))
    load, loaded = checkpoint.load_model, threading.Event()

    def held(*arguments: Any, **options: Any) -> Any:
        loaded.wait(120)
        return load(*arguments, **options)

    monkeypatch.setattr(checkpoint, "load_model", held)

    async def others(client: httpx.AsyncClient) -> list[httpx.Response]:
        while (await client.get("/health")).json()["at_work"] < CROWD:
            await asyncio.sleep(0.01)
        listed = [await client.get(path) for path in ("/health", "/metrics", "/v1/models")]
        return [*listed, await client.post(CHAT, json=chat(model="pocket/rl"))]

    async def crowd() -> tuple[list[httpx.Response], list[httpx.Response]]:
        async with asking(models) as client:
            waiting = [asyncio.create_task(client.post(CHAT, json=chat(max_tokens=1))) for _ in range(CROWD)]
            try:
                answers = await asyncio.wait_for(others(client), 60)
            finally:
                loaded.set()
            return answers, await asyncio.gather(*waiting)

    meanwhile, waited = asyncio.run(crowd())
    assert [answer.status_code for answer in meanwhile] == [200] * 4
    assert [answer.status_code for answer in waited] == [200] * CROWD


def test_scoring_ends_with_the_batch_at_which_the_client_leaves(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = models.reward(models.entry("pocket/rm"))
    assert judge is not None
    batches: list[int] = []
    values, answered = reward.last_token_values, threading.Event()
    conversations = [[*ASK, {"role": "assistant", "content": "long " * 40}]] * 128

    async def leave() -> int:
        loop, reading = asyncio.get_running_loop(), asyncio.Event()

        def held(model: Any, sequences: Any) -> Any:
            batches.append(len(sequences))
            loop.call_soon_threadsafe(reading.set)
            answered.wait(60)
            return values(model, sequences)

        monkeypatch.setattr(reward, "last_token_values", held)
        body = [json.dumps({"model": "pocket/rm", "conversations": conversations}).encode()]
        sent: list[Message] = []

        async def receive() -> Message:
            if body:
                return {"type": "http.request", "body": body.pop()}
            await reading.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            sent.append(message)

        scope: Scope = {"type": "http", "method": "POST", "path": SCORE, "headers": [(b"content-type", b"application/json")]}
        await create(Service(models))({**scope, "query_string": b""}, receive, send)
        answered.set()
        return int(sent[0]["status"])

    assert asyncio.run(leave()) == 499
    judge.worker.run(lambda: None).result(60)  # what was under way has ended
    assert len(batches) == 1


def test_what_takes_long_for_large_requests_is_done_off_the_event_loop(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: dict[str, set[int]] = {}

    def watch(owner: Any, name: str) -> None:
        done = getattr(owner, name)

        def watched(*arguments: Any, **options: Any) -> Any:
            threads.setdefault(name, set()).add(threading.get_ident())
            return done(*arguments, **options)

        monkeypatch.setattr(owner, name, watched)

    watch(WordFilter, "allows")
    watch(TokenTexts, "text")
    watch(chats, "fit")

    async def ask() -> int:
        plain = {"model": "pocket/sft", "prompt": "Who?", "max_tokens": 2}
        async with asking(models, words=WordFilter(["blue moon"])) as client:
            assert (await client.post(CHAT, json=chat())).status_code == 200
            assert (await client.post(COMPLETE, json=plain)).status_code == 200
        async with asking(models) as client:
            told = {"logprobs": 5, "echo": True}
            for more in ({}, {"max_tokens": 0}, {"max_tokens": 0, "stream": True}):
                assert (await client.post(COMPLETE, json={**plain, **told, **more})).status_code == 200
            assert (await client.post(CHAT, json=chat(logprobs=True, top_logprobs=5))).status_code == 200
        return threading.get_ident()

    loop = asyncio.run(ask())
    assert threads.keys() == {"allows", "text", "fit"}
    assert all(loop not in others for others in threads.values())
