"""The served page, driven over HTTP the way Gradio's own client does."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from playground.models import Models
from tests.playground.conftest import wait_until

Serve = Callable[..., str]


def settings(max_tokens: int = 200) -> tuple[Any, ...]:
    """What the settings' components hold: temperature, top-p, longest reply, seed, n, the reward model's n, the system prompt, whether
    each column has its own, and those."""
    return (0.7, 0.95, max_tokens, 0, 1, 2, "", False, *(0.7, 0.95, 96, 0, 1) * 4)


def connect(address: str) -> Any:
    from gradio_client import Client  # type: ignore[import-untyped]

    client = Client(address, verbose=False)
    client.predict(1, None, None, None, None, api_name="/refresh")
    return client


def texts(messages: list[dict[str, Any]]) -> list[str]:
    """What the chat shows as text, without the verdicts."""
    return [part["text"] for message in messages for part in message["content"] if part["type"] == "text"]


def test_the_page_answers_and_allows_nothing_from_elsewhere(serve: Serve, finished_run: Path) -> None:
    address = serve(finished_run.parent)
    with urllib.request.urlopen(address, timeout=30) as response:
        policy = response.headers["content-security-policy"]
        assert b"RLHF Playground" in response.read()
    assert "default-src 'self'" in policy
    assert "http" not in policy
    for path in ("file=app.py", f"file={finished_run / 'run.json'}", "file=/etc/passwd"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{address}gradio_api/{path}", timeout=30)
        assert refused.value.code in (403, 404)


def test_two_columns_stream_at_the_same_time(serve: Serve, models: Models, finished_run: Path) -> None:
    meeting = threading.Barrier(2, timeout=60)
    arrived: set[str] = set()

    def meet(name: str) -> None:
        if name not in arrived:
            arrived.add(name)
            meeting.wait()

    for name in ("base", "rl"):
        models.language(models.entry(f"pocket/{name}")).model.register_forward_pre_hook(lambda *_, name=name: meet(name))
    client = connect(serve(finished_run.parent, models=models))
    client.predict("Hello", 4, "pocket/base", None, None, "pocket/rl", *settings(), api_name="/begin")
    jobs = [client.submit(api_name=f"/column_{column}") for column in (1, 4)]
    for job in jobs:
        prompt, reply = texts(job.result(timeout=60))
        assert prompt == "Hello"
        assert reply
        assert len(job.outputs()) > 1
    assert not meeting.broken


def test_stop_ends_a_reply_and_a_cancelled_request_frees_the_model(serve: Serve, models: Models, finished_run: Path) -> None:
    loaded = models.language(models.entry("pocket/sft"))
    going = threading.Event()
    pause = threading.Event()

    def slowly(*_: object) -> None:
        going.set()
        pause.wait(0.05)

    loaded.model.register_forward_pre_hook(slowly)
    client = connect(serve(finished_run.parent, models=models))
    client.predict("Hello", 1, "pocket/sft", None, None, None, *settings(), api_name="/begin")
    job = client.submit(api_name="/column_1")
    assert going.wait(60)
    client.predict(api_name="/stop")
    *_, last = job.result(timeout=60)
    assert "stopped" in str(last)

    going.clear()
    client.predict(1, "pocket/sft", None, None, None, *settings(), api_name="/again")
    job = client.submit(api_name="/column_1")
    assert going.wait(60)
    assert loaded.engine.busy
    job.cancel()
    wait_until(lambda: not loaded.engine.busy)


def test_a_checkpoint_that_is_not_offered_is_refused(serve: Serve, finished_run: Path) -> None:
    from gradio_client.exceptions import AppError  # type: ignore[import-untyped]

    client = connect(serve(finished_run.parent))
    for name in ("../../etc", "endpoint/http://127.0.0.1:1/v1"):
        with pytest.raises(AppError):
            client.predict("Hello", 1, name, None, None, None, *settings(), api_name="/begin")


def test_a_setting_out_of_bounds_is_refused(serve: Serve, finished_run: Path) -> None:
    from gradio_client.exceptions import AppError

    client = connect(serve(finished_run.parent))
    with pytest.raises(AppError):
        client.predict("Hello", 1, "pocket/sft", None, None, None, *settings(10**6), api_name="/begin")


def test_the_language_and_colours_chosen_hold_from_the_first_byte_on(serve: Serve, finished_run: Path) -> None:
    address = serve(finished_run.parent)

    def html(**headers: str) -> str:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=30) as response:
            body = response.read()
            assert int(response.headers["content-length"]) == len(body)
            return str(body.decode())

    assert 'lang="en"' in html()
    assert "theme_mode" not in html()
    chosen = html(Cookie="pg-language=zh; pg-theme=dark")
    assert 'lang="zh-CN"' in chosen
    assert '<gradio-app theme_mode="dark"' in chosen
    assert '=> "zh-CN"' in html(**{"Accept-Language": "zh-CN,zh;q=0.9"})
    evil = html(Cookie='pg-language="><script>; pg-theme="><script>')
    assert evil == html()
    for elsewhere in ("raw.githubusercontent", "gradio.app"):
        assert elsewhere not in html().split("</head>")[0].split("window.gradio_config")[0]


def test_visitors_do_not_see_each_other(serve: Serve, finished_run: Path) -> None:
    address = serve(finished_run.parent)
    one, other = connect(address), connect(address)
    assert "mine" in str(one.predict("mine", 1, "pocket/sft", None, None, None, *settings(), api_name="/begin"))
    assert "mine" not in str(other.predict("yours", 1, "pocket/sft", None, None, None, *settings(), api_name="/begin"))
