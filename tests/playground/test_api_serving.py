"""The server's process: how it starts, what it logs, how it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.playground import fake_run
from tests.playground.served import ROOT, server

ASK = [{"role": "user", "content": "What is seven plus five?"}]


def test_a_stopped_server_finishes_what_is_under_way_and_takes_nothing_new(tmp_path: Path) -> None:
    fake_run.create(tmp_path / "long")
    fake_run.write_checkpoint(tmp_path / "long", fake_run.STAGES[1], context=4096)
    with server("-m", tmp_path / "long" / "sft") as running:
        client: Any = openai.OpenAI(base_url=running.url, api_key="none", max_retries=0)
        wish = {"model": "long/sft", "messages": ASK, "max_tokens": 1500, "temperature": 0}
        stream = iter(client.chat.completions.create(**wish, stream=True))
        next(stream)
        running.process.send_signal(signal.SIGTERM)
        last = [chunk.choices[0].finish_reason for chunk in stream][-1]
        assert last in ("length", "stop")
        assert running.process.wait(timeout=60) == 0
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{running.root}/health")
        assert "Traceback" not in "".join(running.said)


def test_each_request_is_one_line_of_the_log_without_what_was_said(finished_run: Path) -> None:
    with server("--runs", finished_run, PLAYGROUND_API_KEY="sk-secret") as running:
        client: Any = openai.OpenAI(base_url=running.url, api_key="sk-secret", max_retries=0)
        told = client.chat.completions.with_raw_response.create(model="pocket/rl", messages=ASK, max_tokens=5)
        id = told.headers["X-Request-Id"]
        assert told.parse().id == id
        assert httpx.get(f"{running.url}/models").status_code == 401
    log = "".join(running.said)
    [line] = [line for line in running.said if id in line]
    assert "POST /v1/chat/completions 200" in line
    assert "pocket/rl" in line
    assert "seven plus five" not in log
    assert "sk-secret" not in log


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (["-m", "nowhere/at/all/model"], 3, "no checkpoint at nowhere/at/all/model"),
        (["--runs", "nowhere"], 2, "no directory nowhere"),
        (["--runs", "tests"], 2, "no checkpoint in tests"),
        (["--host", "not an address", "--runs", "tests"], 2, "no address of this machine"),
        (["-m", "tests"], 3, "no config.json"),
        (["--runs", "tests", "--dtype", "fp8"], 2, "'fp8' is no dtype"),
    ],
)
def test_a_server_that_cannot_start_says_why_in_one_sentence(arguments: list[str], status: int, sentence: str) -> None:
    command = [sys.executable, "-m", "playground", "serve", "--port", "0", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (status, "")
    assert sentence in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
