"""What `playground serve` is told about memory reaches its models."""

from __future__ import annotations

from pathlib import Path

import httpx

from tests.playground.conftest import wait_until
from tests.playground.served import server


def test_a_server_keeps_to_the_rows_it_is_given_and_puts_unused_models_away(finished_run: Path) -> None:
    with server("--runs", finished_run, "--idle", 0.005, "--rows", 2, "--cache", 0.5) as running:
        ask = {"model": "pocket/sft", "prompt": "What is", "max_tokens": 3}
        assert httpx.post(f"{running.url}/completions", json={**ask, "n": 2}, timeout=60).status_code == 200
        refused = httpx.post(f"{running.url}/completions", json={**ask, "n": 3}, timeout=60)
        assert refused.status_code == 422
        assert "from 1 to 2" in refused.json()["error"]["message"]
        wait_until(lambda: not httpx.get(f"{running.url}/models/pocket/sft").json()["loaded"])
