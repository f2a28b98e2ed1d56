"""``evalkit run --endpoint``: the whole command over real HTTP, and what a second one asks after the first was interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evalkit.cli import app
from modelkit.records import Result
from tests.evalkit.served import KEY, Reply, Served, letter_checkpoint, serve
from tests.evalkit.tiny import write_csv

ROOT = Path(__file__).parents[2]
COUNT = 20


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("served") / "model"
    letter_checkpoint(path)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [[f"Number {i * 7}?", "one", "two", "three", "four", "ABCD"[i % 4]] for i in range(COUNT)]
    write_csv(tmp_path / "data/test/virology_test.csv", rows)
    return tmp_path / "data"


def arguments(data: Path, *more: object) -> list[str]:
    return ["run", "-t", "mmlu", "--data", str(data), "--shots", "0", *map(str, more)]


def run(data: Path, *more: object) -> Result:
    done = CliRunner().invoke(app, arguments(data, *more), env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    return Result.read(data.parent / "out" / "results.json")


def samples(out: Path) -> dict[str, dict]:
    return {line["id"]: line for line in map(json.loads, (out / "samples/mmlu@hendrycks.jsonl").read_text(encoding="utf-8").splitlines())}


def test_a_served_model_has_the_result_of_the_same_model_on_disk(checkpoint: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, out = data.parent / "here", data.parent / "out"
    done = CliRunner().invoke(app, arguments(data, "-m", checkpoint, "--out", here))
    assert done.exit_code == 0, done.output
    monkeypatch.setenv("SERVED_KEY", KEY)
    with serve(Served(checkpoint, key=KEY)) as served:
        wanted = ["-m", "tiny", "--endpoint", served.url, "--api-key-env", "SERVED_KEY", "--out", out]
        result = run(data, *wanted)
        asked = len(served.asked)
        again = CliRunner().invoke(app, arguments(data, *wanted))
        assert "holds this very result already" in again.stderr
        assert len(served.asked) - asked < 6
    for id, line in samples(here).items():
        assert samples(out)[id]["scores"] == pytest.approx(line["scores"], abs=1e-4)
        assert samples(out)[id]["prediction"] == line["prediction"]
    assert (result.model.path, result.model.endpoint, result.model.dtype) == ("tiny", served.url, "served")
    assert result.model.fingerprint.startswith("endpoint:sha256:")
    assert result.speed.tokens_computed > COUNT
    everything = "".join(file.read_text(encoding="utf-8") for file in out.rglob("*") if file.is_file())
    assert KEY not in everything


def test_what_the_server_can_do_is_shown(checkpoint: Path, data: Path) -> None:
    with serve(Served(checkpoint, echo=False)) as served:
        done = CliRunner().invoke(app, arguments(data, "-m", "tiny", "--endpoint", served.url, "--out", data.parent / "out"))
    assert f"{served.url}: completions with the 20 likeliest tokens' probabilities, without echo; chat with" in done.stderr
    assert "can't be verified" in done.stderr


def test_after_an_interruption_only_the_rest_is_asked(checkpoint: Path, data: Path) -> None:
    out = data.parent / "out"
    with serve(Served(checkpoint)) as served:
        words = arguments(data, "-m", "tiny", "--endpoint", served.url, "--concurrency", 2, "--out", out)
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        started = subprocess.Popen([sys.executable, "-m", "evalkit", *words], env=environment, stderr=subprocess.PIPE, text=True)

        interrupted = threading.Event()

        def interrupt(number: int, path: str, body: dict) -> Reply | None:
            if served.questions >= COUNT // 2 and not interrupted.is_set():
                interrupted.set()
                started.send_signal(signal.SIGINT)
            if interrupted.is_set():
                time.sleep(0.5)  # slower than any signal
            return None

        served.script = interrupt
        _, said = started.communicate(timeout=120)
        assert started.returncode == 130, said
        assert "Traceback" not in said
        assert not out.exists()
        (journal,) = (data.parent / "out.journal").glob("*.jsonl")
        kept = sum('"sample"' in line for line in journal.read_text(encoding="utf-8").splitlines())
        assert COUNT // 2 - 3 <= kept < COUNT
        served.script = lambda number, path, body: None
        served.asked.clear()
        result = run(data, "-m", "tiny", "--endpoint", served.url, "--concurrency", 2, "--out", out)
        assert served.questions == COUNT - kept
    assert result.tasks["mmlu@hendrycks"].methods["letters"].n == COUNT
    assert len(samples(out)) == COUNT


def test_what_was_given_up_when_the_server_died_is_asked_again(checkpoint: Path, data: Path) -> None:
    out = data.parent / "out"
    with serve(Served(checkpoint)) as served:
        wanted = ["-m", "tiny", "--endpoint", served.url, "--concurrency", 1, "--patience", 0.3, "--out", out]
        served.script = lambda number, path, body: Reply(500, b"out of memory") if served.questions > 9 else None
        done = CliRunner().invoke(app, arguments(data, *wanted))
        assert done.exit_code == 5, done.output
        assert "the server failed (500)" in done.stderr
        served.script = lambda number, path, body: None
        served.asked.clear()
        result = run(data, *wanted)
        assert served.questions == COUNT - 9
    assert result.tasks["mmlu@hendrycks"].methods["letters"].unscored == 0


def test_generate_and_letters_in_a_chat(checkpoint: Path, data: Path) -> None:
    with serve(Served(checkpoint, tops=20)) as served:
        both = ["--chat", "--method", "letters,generate"]
        result = run(data, "-m", "tiny", "--endpoint", served.url, *both, "--limit", 3, "--out", data.parent / "out")
    methods = result.tasks["mmlu@hendrycks"].methods
    assert {name: found.n for name, found in methods.items()} == {"letters": 3, "generate": 3}
    assert all("messages" in body for _, body in served.asked if "Number" in json.dumps(body))


def test_options_that_are_for_weights_are_refused(checkpoint: Path, data: Path) -> None:
    done = CliRunner().invoke(app, arguments(data, "-m", "tiny", "--endpoint", "http://127.0.0.1:9/v1", "--dtype", "bf16"))
    assert done.exit_code == 2
    assert "--dtype is for weights on this machine" in done.stderr
