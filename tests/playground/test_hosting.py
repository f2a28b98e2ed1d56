"""What a public page does otherwise: shorter replies on a Space's processor, words that are masked, in the page and in the API."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from modelkit.chat import Message
from modelkit.errors import UserError
from playground.api.app import create
from playground.api.service import Service
from playground.chat.replies import Candidate, Reply, stream_reply
from playground.chat.settings import ChatSettings
from playground.guard.content_filter import WordFilter
from playground.guard.credentials import Credentials
from playground.hosting.host import CPU_SPACE_TOKENS, Host
from playground.hosting.pace import note, tokens_per_second
from playground.models import Models
from playground.settings import MAX_TOKENS, resolve
from playground.writers import Writers, masked
from tests.playground.started import visitor

ASK = [Message(role="user", content="What is 1 plus 2?")]


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that says nothing."""
    for name in ("SPACE_ID", "ACCELERATOR", "SPACES_ZERO_GPU", "GRADIO_SERVER_NAME", "GRADIO_SERVER_PORT", "FORWARDED_ALLOW_IPS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("environment", "host", "address", "longest"),
    [
        ({}, Host(), "127.0.0.1", MAX_TOKENS),
        ({"SPACE_ID": "a/b", "ACCELERATOR": "none"}, Host(space=True), "0.0.0.0", CPU_SPACE_TOKENS),
        ({"SPACE_ID": "a/b", "ACCELERATOR": "t4"}, Host(space=True, gpu=True), "0.0.0.0", MAX_TOKENS),
        ({"SPACE_ID": "a/b", "SPACES_ZERO_GPU": "true"}, Host(space=True, gpu=True, zero_gpu=True), "0.0.0.0", MAX_TOKENS),
    ],
)
def test_a_space_is_known_by_its_environment(
    environment: dict[str, str],
    host: Host,
    address: str,
    longest: int,
    tmp_path: Path,
    free_port: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert Host.here() == host
    settings = resolve(tmp_path, None, free_port, None)
    assert (settings.host, settings.max_tokens) == (address, longest)
    monkeypatch.setenv("PLAYGROUND_MAX_TOKENS", "64")
    settings = resolve(tmp_path, "127.0.0.1", free_port, None)
    assert (settings.host, settings.max_tokens) == ("127.0.0.1", 64)


@pytest.mark.parametrize("variable", ["PLAYGROUND_MAX_TOKENS", "PLAYGROUND_PER_MINUTE", "GRADIO_SERVER_PORT"])
def test_a_number_that_is_none_ends_the_start_with_a_sentence(variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("-1", "1e3", "many", "99999999"):
        monkeypatch.setenv(variable, value)
        with pytest.raises(UserError, match=f"{variable} is '{value}': give a whole number"):
            resolve(tmp_path, None, None, None)


def test_replies_are_no_longer_than_the_host_allows_and_its_pace_is_told(models: Models) -> None:
    writers = Writers(models, longest=5)
    assert tokens_per_second(models) is None
    assert "5 tokens" in note("en", 5, models)
    for seed in range(20):
        *_, reply = writers.write("pocket/sft", ASK, ChatSettings(max_tokens=200, seed=seed, n=2), lambda: False)
        assert 0 < reply.tokens <= 10
    assert tokens_per_second(models)
    assert "tokens a second" in note("en", 5, models)
    assert "词元" in note("zh", 5, models)


def test_visitors_of_a_space_without_a_gpu_are_told_so(
    serve: Callable[..., str], finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPACE_ID", "somebody/playground")
    client = visitor(serve(finished_run.parent), headers={"accept-language": "zh"})
    assert "个 CPU 核上运行" in str(client.predict("", api_name="/arrive"))


def test_a_reply_never_shows_a_word_of_the_list_not_even_its_beginning() -> None:
    def written() -> Iterator[Reply]:
        for text in ("a b", "a blue", "a blue mo", "a blue moon", "a blue moon r"):
            yield Reply("x", phase="writing", text=text)
        yield Reply("x", phase="done", text="a blue moon rose", candidates=(Candidate("blue moon", "stop", 1.0, None),))

    shown = list(masked(WordFilter(["blue moon"]), written()))
    assert [reply.text for reply in shown] == ["a ", "a ", "a ", "a ", "a ▮▮▮▮ ▮▮▮▮ r", "a ▮▮▮▮ ▮▮▮▮ rose"]
    assert shown[-1].candidates[0].text == "▮▮▮▮ ▮▮▮▮"


def test_the_api_masks_streams_like_whole_answers_and_takes_no_such_question(models: Models) -> None:
    entry = models.entry("pocket/sft")
    *_, reply = stream_reply(models, "pocket/sft", ASK, ChatSettings(max_tokens=40, temperature=0.0, top_p=1.0), lambda: False)
    letters = sorted({character for character in reply.text if character.isalnum()})
    words = WordFilter([letters[0], letters[-1], "blue moon"])
    body: dict[str, Any] = {"model": "pocket/sft", "messages": ASK, "max_tokens": 40, "temperature": 0}

    async def ask() -> None:
        transport = httpx.ASGITransport(create(Service(models, words=words)))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            whole = (await client.post("/v1/chat/completions", json=body)).json()["choices"][0]["message"]["content"]
            assert whole == words.mask(reply.text)
            streamed = (await client.post("/v1/chat/completions", json={**body, "stream": True})).text
            events = [json.loads(line[6:]) for line in streamed.splitlines() if line.startswith("data: {")]
            said = "".join(event["choices"][0]["delta"].get("content") or "" for event in events)
            assert said.strip() == whole
            for path, asked in (
                ("chat/completions", {**body, "messages": [{"role": "user", "content": "a Blue  moon"}]}),
                ("completions", {"model": "pocket/sft", "prompt": "a blue moon"}),
                ("completions", {"model": "pocket/sft", "prompt": models.language(entry).tokenizer("a blue moon")["input_ids"]}),
            ):
                refused = await client.post(f"/v1/{path}", json=asked)
                assert (refused.status_code, refused.json()["error"]["code"]) == (400, "content_filter")
            for path, asked in (
                ("chat/completions", {**body, "logprobs": True}),
                ("completions", {"model": "pocket/sft", "prompt": "a", "logprobs": 1}),
            ):
                assert (await client.post(f"/v1/{path}", json=asked)).status_code == 422

    asyncio.run(ask())


def test_the_api_opens_to_the_pages_users(models: Models) -> None:
    async def ask() -> list[int]:
        transport = httpx.ASGITransport(create(Service(models, credentials=Credentials((("ann", "secret"),)))))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            told = [{}, {"Authorization": "Bearer ann:secret"}, {"Authorization": "Bearer ann"}]
            answers = [await client.get("/v1/models", headers=headers) for headers in told]
            answers.append(await client.get("/v1/models", auth=("ann", "secret")))
            answers.append(await client.get("/health"))
            return [answer.status_code for answer in answers]

    assert asyncio.run(ask()) == [401, 200, 401, 200, 200]
