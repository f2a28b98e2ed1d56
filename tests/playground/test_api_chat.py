"""Chats with a real server through the official client."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import torch

from modelkit import checkpoint
from modelkit.chat import Message, encode_prompt, stop_ids
from modelkit.generation.loop import generate
from modelkit.generation.requests import Sample
from modelkit.generation.sampling import Sampling
from playground.api.answers import ChatShape
from playground.api.service import Record
from playground.api.tokens import TokenTexts
from tests.playground import fake_run
from tests.playground.conftest import wait_until
from tests.playground.served import Server, server

ASK: list[Message] = [{"role": "user", "content": "What is seven plus five? 热的反义词是"}]
MODEL = "pocket/sft"


@pytest.fixture(scope="module")
def served(finished_run: Path) -> Iterator[Server]:
    with server("--runs", finished_run) as running:
        yield running


@pytest.fixture
def client(served: Server) -> Any:
    return openai.OpenAI(base_url=served.url, api_key="none", max_retries=0)


def test_the_ready_checkpoints_are_listed_with_their_context(served: Server, client: Any) -> None:
    listed = {model.id: model for model in client.models.list()}
    assert list(listed) == ["pocket/base", "pocket/sft", "pocket/rm", "pocket/rl"]
    assert listed[MODEL].model_extra is not None
    assert listed[MODEL].model_extra["max_model_len"] == 256
    assert client.models.retrieve("pocket/rl").owned_by == "pocket"
    assert httpx.get(f"{served.root}/health").json()["status"] == "ok"


def test_a_greedy_reply_is_the_models_own(client: Any, finished_run: Path) -> None:
    path = finished_run / "sft"
    model, tokenizer = checkpoint.load_model(path), checkpoint.load_tokenizer(path)
    prompt = encode_prompt(tokenizer, ASK)
    [[alone]] = generate(model, [prompt], Sampling(24, temperature=0), stop_ids(tokenizer, model))
    told = client.chat.completions.create(model=MODEL, messages=ASK, max_tokens=24, temperature=0)
    text = str(tokenizer.decode(alone.ids, skip_special_tokens=True))
    assert told.choices[0].message.content == text.removeprefix(" ")  # which the template writes
    assert told.choices[0].finish_reason == alone.finish
    assert told.usage is not None
    assert (told.usage.prompt_tokens, told.usage.completion_tokens) == (len(prompt), len(alone.ids))


def test_a_stream_adds_up_to_the_whole_and_ends_with_the_counts(client: Any) -> None:
    wish = {"model": MODEL, "messages": ASK, "max_tokens": 40, "seed": 3, "n": 3}
    whole = client.chat.completions.create(**wish)
    texts, reasons, usage = [""] * 3, [None] * 3, None
    for chunk in client.chat.completions.create(**wish, stream=True, stream_options={"include_usage": True}):
        usage = chunk.usage
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            reasons[choice.index] = choice.finish_reason or reasons[choice.index]
    assert texts == [choice.message.content for choice in whole.choices]
    assert reasons == [choice.finish_reason for choice in whole.choices]
    assert len(set(texts)) == 3
    assert usage is not None
    assert whole.usage is not None
    assert usage.completion_tokens == whole.usage.completion_tokens


def test_log_probabilities_are_the_models_own(client: Any, finished_run: Path) -> None:
    told = client.chat.completions.create(model=MODEL, messages=ASK, max_tokens=6, temperature=0, logprobs=True, top_logprobs=4)
    tokenizer, model = checkpoint.load_tokenizer(finished_run / "sft"), checkpoint.load_model(finished_run / "sft")
    ids = encode_prompt(tokenizer, ASK)
    assert told.choices[0].logprobs is not None
    assert told.choices[0].logprobs.content is not None
    for token in told.choices[0].logprobs.content:
        with torch.inference_mode():
            expected = model(torch.tensor([ids])).logits[0, -1].log_softmax(-1).topk(4)
        assert token.logprob == pytest.approx(float(expected.values[0]), abs=1e-4)
        assert [one.logprob for one in token.top_logprobs] == pytest.approx(expected.values.tolist(), abs=1e-4)
        ids.append(int(expected.indices[0]))
    written = b"".join(bytes(token.bytes or ()) for token in told.choices[0].logprobs.content)
    assert written.decode(errors="ignore").removeprefix(" ") == (told.choices[0].message.content or "").replace("\ufffd", "")


def test_a_stop_string_ends_the_reply_and_is_no_part_of_it(client: Any) -> None:
    wish = {"model": MODEL, "messages": ASK, "max_tokens": 40, "temperature": 0}
    text = client.chat.completions.create(**wish).choices[0].message.content or ""
    mark = text[len(text) // 2 :][:2]
    told = client.chat.completions.create(**wish, stop=[mark, "never written"]).choices[0]
    assert (told.message.content, told.finish_reason) == (text[: text.index(mark)], "stop")


def test_the_blank_that_the_template_writes_before_a_reply_is_no_part_of_it(client: Any) -> None:
    wish = {"model": MODEL, "messages": ASK, "max_tokens": 3, "temperature": 2, "n": 32, "logprobs": True}
    choices = [choice for seed in (0, 32, 64, 96) for choice in client.chat.completions.create(**wish, seed=seed).choices]
    written = [b"".join(bytes(token.bytes) for token in choice.logprobs.content).decode(errors="replace") for choice in choices]
    whole = [(text, choice.message.content) for text, choice in zip(written, choices, strict=True) if "\ufffd" not in text]
    assert any(text.startswith(" ") for text, _ in whole)
    assert all(content == text.removeprefix(" ") for text, content in whole)


@pytest.mark.parametrize("pieces", [[" Twelve. "], ["", " ", "Twelve. "], [" Tw", "elve", ". "]])
def test_nor_is_it_of_a_streamed_reply_however_that_is_cut(pieces: list[str]) -> None:
    shape = ChatShape(Record("req-1"), TokenTexts(fake_run.make_tokenizer()), (), tells=False, lead=" ")
    assert "".join(shape.delta(0, Sample(piece))["delta"]["content"] for piece in pieces) == "Twelve. "


def test_extensions_of_sampling_are_taken(client: Any) -> None:
    wish = {"model": MODEL, "messages": ASK, "max_tokens": 12, "seed": 1}
    greedy = client.chat.completions.create(**wish, temperature=0).choices[0].message.content
    for extension in ({"top_k": 1}, {"min_p": 0.999999}, {"top_k": 1, "repetition_penalty": 1.0}):
        assert client.chat.completions.create(**wish, extra_body=extension).choices[0].message.content == greedy
    assert client.chat.completions.create(**wish, extra_body={"top_k": 1, "repetition_penalty": 0.05}).choices[0].message.content != greedy


def test_the_oldest_turns_are_dropped_and_the_answer_says_so(client: Any) -> None:
    old = [{"role": "user", "content": "one two three four five " * 8}, {"role": "assistant", "content": "six"}]
    system = {"role": "system", "content": "Be short."}
    told = client.chat.completions.with_raw_response.create(model=MODEL, messages=[system, *old * 4, *ASK], max_tokens=8)
    dropped = told.parse().model_extra["dropped_turns"]
    assert 0 < dropped <= 4
    assert told.headers["X-Dropped-Turns"] == str(dropped)
    shorter = client.chat.completions.create(model=MODEL, messages=[system, *(old * 4)[2 * dropped :], *ASK], max_tokens=8)
    assert shorter.usage is not None
    assert shorter.usage.prompt_tokens == told.parse().usage.prompt_tokens
    assert shorter.model_extra is not None
    assert shorter.model_extra["dropped_turns"] == 0


def test_the_second_turn_of_a_chat_reads_what_is_new(client: Any) -> None:
    first = client.chat.completions.create(model="pocket/rl", messages=ASK, max_tokens=20, seed=5)
    again = [*ASK, {"role": "assistant", "content": first.choices[0].message.content}, *ASK]
    second = client.chat.completions.create(model="pocket/rl", messages=again, max_tokens=4)
    assert first.usage is not None
    assert second.usage is not None
    assert second.usage.prompt_tokens_details is not None
    assert (second.usage.prompt_tokens_details.cached_tokens or 0) >= first.usage.prompt_tokens - 1


def test_64_at_once_each_get_their_own_reply(served: Server) -> None:
    async def everybody() -> list[str]:
        async with openai.AsyncOpenAI(base_url=served.url, api_key="none", max_retries=0) as opened:
            client: Any = opened

            async def one(number: int) -> str:
                messages: list[Message] = [{"role": "user", "content": f"{number} 加 {number} 等于多少？"}]
                stream = await client.chat.completions.create(model=MODEL, messages=messages, max_tokens=16, temperature=0, stream=True)
                return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

            together = list(await asyncio.gather(*map(one, range(64))))
            assert [await one(number) for number in (0, 31, 63)] == [together[0], together[31], together[63]]
            return together

    texts = asyncio.run(everybody())
    assert len(set(texts)) > 10
    assert served.metric("playground_requests_total", path="/v1/chat/completions", status="200") >= 64


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A model with room for a hundred thousand tokens."""
    run = tmp_path_factory.mktemp("endless") / "long"
    fake_run.create(run)
    fake_run.write_checkpoint(run, fake_run.STAGES[1], context=100_000)
    with server("-m", run / "sft", "--max-tokens", 100_000) as running:
        yield running


LONG = {"model": "long/sft", "messages": ASK, "max_tokens": 90_000, "temperature": 0}


def test_whoever_goes_away_frees_the_row(endless: Server) -> None:
    client: Any = openai.OpenAI(base_url=endless.url, api_key="none", max_retries=0)
    stream = client.chat.completions.create(**LONG, stream=True)
    assert len([chunk for _, chunk in zip(range(5), stream, strict=False)]) == 5
    assert endless.metric("playground_samples_live") == 1
    stream.close()
    wait_until(lambda: endless.metric("playground_samples_live") == 0)
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=1.0).chat.completions.create(**LONG)
    wait_until(lambda: endless.metric("playground_samples_live") == 0)
    assert endless.metric("playground_requests_total", status="499") == 1
    assert endless.metric("playground_tokens_total", kind="written") < 90_000


def test_a_short_request_gets_past_a_long_one(endless: Server) -> None:
    client: Any = openai.OpenAI(base_url=endless.url, api_key="none", max_retries=0)
    with client.chat.completions.create(**LONG, stream=True) as stream:
        next(iter(stream))
        told = client.chat.completions.create(model="long/sft", messages=ASK, max_tokens=3)
        assert told.choices[0].finish_reason in ("length", "stop")
    assert math.isfinite(endless.metric("playground_request_seconds_sum"))
