"""What the server says to what it can't or won't do."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from modelkit.generation.requests import Request
from modelkit.generation.sampling import Sampling
from playground.api import bridge
from playground.api.app import create
from playground.api.limits import Limits
from playground.api.service import Service
from playground.guard.credentials import Credentials
from playground.models import Loaded, Models
from tests.playground import fake_run
from tests.playground.asking import ASK, CHAT, COMPLETE, SCORE, asking, chat, posted, said

HALF = "\ud800"
"""Half of a character: JSON can write it, and no tokenizer can read it."""
PICTURE = {"type": "image_url", "image_url": {"url": "http://x"}}


REFUSED: list[tuple[str, Any, int, str]] = [
    (CHAT, b"{", 400, "not valid JSON"),
    (CHAT, [], 422, "JSON object"),
    (CHAT, chat(model="pocket/none"), 404, "no model 'pocket/none' here; those served are: pocket/base, pocket/sft"),
    (CHAT, chat(model="../../etc"), 404, "no model"),
    (CHAT, chat(model="pocket/rm"), 422, "/v1/score"),
    (CHAT, chat(messages=[]), 422, "the last message must be the user's"),
    (CHAT, chat(messages=said("user", "assistant")), 422, "the last message must be the user's"),
    (CHAT, chat(messages=said("system", "system", "user")), 422, "one system prompt"),
    (CHAT, chat(messages=said("user", "system", "user")), 422, "it comes first"),
    (CHAT, chat(messages=said("tool", "user")), 422, "messages.0.role"),
    (
        CHAT,
        chat(messages=[{"role": "user", "content": [PICTURE]}]),
        422,
        "messages.0.content",
    ),
    (CHAT, chat(messages=[{"role": "user", "content": "word " * 1000}]), 400, "this model can read"),
    (CHAT, chat(temperature=-1), 422, "temperature: "),
    (CHAT, chat(temperature=3), 422, "temperature: "),
    (CHAT, chat(temperature=1e-60), 422, "temperature: above 0 it must be at least 1e-06"),
    (CHAT, chat(top_p=0), 422, "top_p: "),
    (CHAT, chat(top_p=1e-60), 422, "top_p: "),
    (CHAT, chat(top_k=10**30), 422, "top_k: "),
    (CHAT, chat(repetition_penalty=1e-60), 422, "repetition_penalty: "),
    (CHAT, chat(max_tokens=0), 422, "max_tokens: "),
    (CHAT, chat(max_tokens=10**6), 422, "up to 4096"),
    (CHAT, chat(n=0), 422, "n: "),
    (CHAT, chat(n=33), 422, "33 samples"),
    (CHAT, chat(n=1000), 422, "1000 samples"),
    (CHAT, chat(stop=[""]), 422, "stop.0: "),
    (CHAT, chat(top_logprobs=3), 422, "needs logprobs"),
    (CHAT, chat(frequency_penalty=0.5), 422, "use repetition_penalty"),
    (CHAT, chat(tools=[{"type": "function"}]), 422, "tools is not served"),
    (CHAT, chat(temprature=1), 422, "'temprature' is no field"),
    (CHAT, chat(messages=[{"role": "user", "content": HALF}]), 422, "messages.0: half of a surrogate"),
    (CHAT, chat(messages=[{"role": "user", "content": [{"type": "text", "text": HALF}]}]), 422, "half of a surrogate"),
    (CHAT, chat(stop=[HALF]), 422, "stop.0: "),
    (CHAT, chat(model=HALF), 404, "no model '\\ud800' here"),
    (CHAT, chat(**{HALF: 1}), 422, "'\\ud800' is no field"),
    (COMPLETE, {"model": "pocket/sft", "prompt": HALF}, 422, "prompt: half of a surrogate"),
    (COMPLETE, {"model": "pocket/sft", "prompt": ["a", HALF]}, 422, "prompt: half of a surrogate"),
    (SCORE, {"model": "pocket/rm", "messages": [*ASK, {"role": "assistant", "content": HALF}]}, 422, "half of a surrogate"),
    (COMPLETE, {"model": "pocket/sft", "prompt": ""}, 422, "no tokens"),
    (COMPLETE, {"model": "pocket/sft", "prompt": []}, 422, "no tokens"),
    (COMPLETE, {"model": "pocket/sft", "prompt": {"a": 1}}, 422, "a text, token ids, or a list"),
    (COMPLETE, {"model": "pocket/sft", "prompt": ["a", 1]}, 422, "a text, token ids, or a list"),
    (COMPLETE, {"model": "pocket/sft", "prompt": [5, 10**6]}, 422, "token ids lie between 0 and"),
    (COMPLETE, {"model": "pocket/sft", "prompt": [5, -1]}, 422, "token ids lie between 0 and"),
    (COMPLETE, {"model": "pocket/sft", "prompt": [5] * 256}, 400, "context length of 256"),
    (COMPLETE, {"model": "pocket/sft", "prompt": "a", "max_tokens": 0}, 422, "unless echo"),
    (COMPLETE, {"model": "pocket/sft", "prompt": "a", "logprobs": 21}, 422, "logprobs: "),
    (COMPLETE, {"model": "pocket/sft", "prompt": ["a"] * 200}, 422, "200 samples"),
    (SCORE, {"model": "pocket/sft", "messages": said("user", "assistant")}, 422, "no reward model: use pocket/rm"),
    (SCORE, {"model": "pocket/rm", "messages": ASK}, 422, "the assistant's"),
    (SCORE, {"model": "pocket/rm"}, 422, "either messages"),
    (SCORE, {"model": "pocket/rm", "messages": [*ASK, {"role": "assistant", "content": "long " * 999}]}, 400, "context length"),
    ("/v1/embeddings", {}, 404, "nothing at /v1/embeddings"),
]


@pytest.mark.parametrize(("path", "body", "status", "sentence"), REFUSED)
def test_bad_input_is_refused_with_a_sentence_in_openais_shape(models: Models, path: str, body: Any, status: int, sentence: str) -> None:
    answer = posted(models, path, body)
    error = answer.json()["error"]
    assert (answer.status_code, error.keys()) == (status, {"message", "type", "param", "code"}), error
    assert sentence in error["message"]
    assert answer.headers["X-Request-Id"].startswith("req-")


def test_fields_that_ask_for_nothing_are_taken(models: Models) -> None:
    nothing = {"frequency_penalty": 0.0, "tools": [], "user": "me", "stop": None, "response_format": {"type": "text"}, "logit_bias": {}}
    assert posted(models, CHAT, chat(**nothing)).status_code == 200


@pytest.mark.parametrize(
    ("limits", "body", "status"),
    [
        (Limits(messages=2), chat(messages=said("user", "assistant", "user")), 413),
        (Limits(characters=10), chat(), 413),
        (Limits(characters=10), chat(messages=[{"role": "user", "content": "short"}]), 200),
        (Limits(body_bytes=1000), chat(messages=[{"role": "user", "content": "word " * 300}]), 413),
        (Limits(tokens=3), chat(), 422),
        (Limits(samples=2), chat(n=3), 422),
    ],
)
def test_limits_hold(models: Models, limits: Limits, body: dict[str, Any], status: int) -> None:
    assert posted(models, CHAT, body, limits).status_code == status


@pytest.mark.parametrize(("prompts", "status"), [([[5] * 20] * 5, 200), ([[5] * 20] * 6, 413), (["many words " * 9] * 6, 413)])
def test_the_prompts_of_a_request_have_so_many_tokens_together_and_no_more(models: Models, prompts: list[Any], status: int) -> None:
    answer = posted(models, COMPLETE, {"model": "pocket/sft", "prompt": prompts, "max_tokens": 1}, Limits(prompt_tokens=100))
    assert answer.status_code == status
    assert status == 200 or "up to 100 are possible" in answer.json()["error"]["message"]


def test_conversations_to_score_have_so_many_tokens_together_and_no_more(models: Models) -> None:
    wish = {"model": "pocket/rm", "conversations": [[*ASK, {"role": "assistant", "content": "Twelve."}]] * 5}
    assert posted(models, SCORE, wish, Limits(prompt_tokens=100)).json()["error"]["code"] == "too_many_prompt_tokens"


def test_more_at_once_and_more_a_minute_than_allowed_are_told_when_to_come_back(models: Models) -> None:
    async def crowd(limits: Limits) -> list[httpx.Response]:
        async with asking(models, limits) as client:
            return await asyncio.gather(*(client.post(CHAT, json=chat(max_tokens=100)) for _ in range(6)))

    for limits in (Limits(concurrent=2), Limits(per_minute=2)):
        answers = asyncio.run(crowd(limits))
        assert sorted(answer.status_code for answer in answers) == [200, 200, 429, 429, 429, 429]
        late = next(answer for answer in answers if answer.status_code == 429)
        assert 1 <= int(late.headers["Retry-After"]) <= 60
        assert late.json()["error"]["type"] == "rate_limit_error"


def test_everything_but_the_health_check_asks_for_the_key(models: Models) -> None:
    async def ask() -> None:
        async with asking(models, key="secret") as client:
            assert (await client.get("/health")).status_code == 200
            for path in ("/v1/models", "/metrics", "/v1/openapi.json", "/none"):
                for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "secret"}, {"Authorization": "Basic secret"}):
                    refused = await client.get(path, headers=header)
                    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
            right = {"Authorization": "Bearer secret"}
            for path in ("/v1/models", "/v1/models/pocket/rl", "/metrics", "/v1/openapi.json"):
                assert (await client.get(path, headers=right)).status_code == 200
            assert (await client.post(CHAT, json=chat(), headers=right)).status_code == 200

    asyncio.run(ask())


def test_passwords_cannot_be_tried_out_at_leisure(models: Models) -> None:
    def told(password: str) -> dict[str, str]:
        return {"Authorization": f"Bearer ann:{password}"}

    async def ask() -> list[int]:
        service = Service(models, credentials=Credentials((("ann", "secret"),)))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(create(service)), base_url="http://test") as client:
            unsaid = [(await client.get("/v1/models")).status_code for _ in range(20)]
            assert set(unsaid) == {401}
            assert (await client.get("/v1/models", headers=told("secret"))).status_code == 200
            return [(await client.get("/v1/models", headers=told(word))).status_code for word in [*map(str, range(30)), "secret"]]

    codes = asyncio.run(ask())
    assert codes.count(401) <= 11
    assert codes[-1] == 429


def test_rewards_are_the_reward_models_own(models: Models) -> None:
    replies = ["Twelve.", "十二。", "I don't know."]
    conversations = [[*ASK, {"role": "assistant", "content": reply}] for reply in replies]
    answer = posted(models, SCORE, {"model": "pocket/rm", "conversations": conversations}).json()
    judge = models.reward(models.entry("pocket/rm"))
    assert judge is not None
    assert [row["score"] for row in answer["data"]] == pytest.approx(judge.model.score(conversations), abs=1e-5)  # type: ignore[arg-type]
    assert all(0 <= row["percentile"] <= 100 for row in answer["data"])
    one = posted(models, SCORE, {"model": "pocket/rm", "messages": conversations[1]}).json()
    assert one["data"][0]["score"] == pytest.approx(answer["data"][1]["score"], abs=1e-5)


def test_when_memory_runs_out_the_newest_request_fails_and_the_others_go_on(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = models.language(models.entry("pocket/sft"))
    batch = loaded.engine._batch
    step = batch.step

    def short() -> Any:
        if batch.live == 2 and not failed:
            failed.append(True)
            raise MemoryError
        return step()

    failed: list[bool] = []
    monkeypatch.setattr(batch, "step", short)

    async def ask() -> list[httpx.Response]:
        async with asking(models) as client:
            wishes = [chat(max_tokens=150, temperature=0, messages=[{"role": "user", "content": text}]) for text in ("first", "second")]
            return await asyncio.gather(*(client.post(CHAT, json=wish) for wish in wishes))

    answers = asyncio.run(ask())
    assert sorted(answer.status_code for answer in answers) == [200, 503]
    late = next(answer for answer in answers if answer.status_code == 503)
    assert "not enough memory" in late.json()["error"]["message"]
    assert late.headers["X-Request-Id"] in late.json()["error"]["message"]
    assert late.headers["Retry-After"]


@pytest.mark.parametrize("interval", [0.0, 1.0])  # one by one, and the text together with the failure
def test_a_failure_in_the_middle_of_a_stream_is_its_last_event(models: Models, monkeypatch: pytest.MonkeyPatch, interval: float) -> None:
    monkeypatch.setattr(bridge, "INTERVAL_SECONDS", interval)
    loaded = models.language(models.entry("pocket/base"))
    batch = loaded.engine._batch
    step, steps = batch.step, iter(range(100))

    def failing() -> Any:
        if next(steps) == 5:
            raise RuntimeError("broken")
        return step()

    monkeypatch.setattr(batch, "step", failing)
    lines = posted(models, CHAT, chat(model="pocket/base", max_tokens=50, stream=True, seed=1)).text.strip().splitlines()
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line and line != "data: [DONE]"]
    assert "failed while writing" in events[-1]["error"]["message"]
    assert any(event.get("choices", [{}])[0].get("delta", {}).get("content") for event in events[:-1])


def test_a_checkpoint_that_vanishes_is_missed_alone_and_welcome_back(tmp_path: Path) -> None:
    run = tmp_path / "pocket"
    fake_run.make_run(run)
    models = Models([run], 1 << 30)
    assert posted(models, CHAT, chat()).status_code == 200
    loaded = models.language(models.entry("pocket/sft"))
    assert isinstance(loaded, Loaded)
    under_way = loaded.engine.submit(Request([5, 6], Sampling(max_tokens=200)))
    shutil.move(run / "sft", tmp_path / "elsewhere")
    gone = posted(models, CHAT, chat())
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "model_not_found")
    assert under_way.samples()[0].finish in ("stop", "length")
    assert posted(models, CHAT, chat(model="pocket/rl")).status_code == 200
    shutil.move(tmp_path / "elsewhere", run / "sft")
    models._scanned = float("-inf")
    assert posted(models, CHAT, chat()).status_code == 200
    models.close()


def test_a_model_that_does_not_fit_is_one_sentence(finished_run: Path) -> None:
    refused = posted(Models([finished_run], 1000), CHAT, chat())
    assert refused.status_code == 503
    assert "more than the 0 MiB that models may take" in refused.json()["error"]["message"]


def test_the_page_can_answer_the_api_on_its_own_port(serve: Callable[..., str], finished_run: Path, models: Models) -> None:
    page = serve(finished_run, models, api=create(Service(models, credentials=Credentials(key="secret")))).rstrip("/")
    assert httpx.get(f"{page}/v1/models").status_code == 401
    answer = httpx.post(f"{page}{CHAT}", json=chat(), headers={"Authorization": "Bearer secret"}, timeout=60)
    assert answer.json()["choices"][0]["message"]["role"] == "assistant"
    assert httpx.get(f"{page}/health").json()["status"] == "ok"
    assert "<gradio-app" in httpx.get(page).text
