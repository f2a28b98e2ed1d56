"""Models served elsewhere, asked over HTTP on this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from modelkit.chat import Message
from modelkit.errors import UserError
from playground.chat.replies import Reply
from playground.chat.settings import ChatSettings
from playground.endpoints import Served
from playground.models import Models
from playground.writers import Writers

ASK = [Message(role="user", content="What is 1 plus 2?")]
USUAL = ChatSettings()


class _Answers(BaseHTTPRequestHandler):
    """Streams ``three`` in two chunks for every sample; a model called ``broken`` is an error that tells secrets, and one called ``silent``
    says nothing until it is let go."""

    heard: list[dict[str, Any]] = []
    let_go = threading.Event()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.heard.append({**body, "key": self.headers["authorization"]})
        if body["model"] == "silent":
            self.let_go.wait(30)
            self.let_go.set()
        self.send_response(400 if body["model"] == "broken" else 200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        if body["model"] == "broken":
            self.wfile.write(b'{"error": {"message": "secret words"}}')
            return
        for sample in range(body["n"]):
            for text, reason in (("thr", None), (f"ee{sample}", "length")):
                choice = {"index": sample, "delta": {"content": text}, "finish_reason": reason}
                chunk = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": [choice]}
                self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def address() -> Iterator[str]:
    _Answers.heard.clear()
    _Answers.let_go.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    _Answers.let_go.set()
    server.shutdown()
    server.server_close()


def final(models: Models, served: Served, name: str = "endpoint/Other", settings: ChatSettings = USUAL) -> Reply:
    return list(Writers(models, (served,)).write(name, ASK, settings, lambda: False))[-1]


def test_a_served_model_answers_and_is_scored_by_the_run_beside_it(models: Models, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER_KEY", "a key")
    reply = final(models, Served.parse(f"Other=m@{address}", "OTHER_KEY"), settings=ChatSettings(system="Be kind.", seed=7))
    assert (reply.phase, reply.text, reply.finish, reply.error) == ("done", "three0", "length", None)
    assert reply.judge == "pocket/rm"
    assert reply.reward is not None
    asked = _Answers.heard[0]
    assert [message["role"] for message in asked["messages"]] == ["system", "user"]
    assert (asked["seed"], asked["key"]) == (7, "Bearer a key")


def test_the_best_of_several_samples_is_shown(models: Models, address: str) -> None:
    reply = final(models, Served.parse(f"Other=m@{address}", None), settings=ChatSettings(n=3))
    assert sorted(candidate.text for candidate in reply.candidates) == ["three0", "three1", "three2"]
    assert reply.text == reply.candidates[0].text


def test_what_a_server_says_of_its_troubles_stays_in_the_log(models: Models, address: str) -> None:
    reply = final(models, Served.parse(f"Other=broken@{address}", None))
    assert reply.error == "Other doesn't answer; the server's log says why."


def test_a_visitor_who_stops_a_silent_server_does_not_wait_for_it(models: Models, address: str) -> None:
    served = Served.parse(f"Other=silent@{address}", None)
    *_, last = Writers(models, (served,)).write(served.id, ASK, USUAL, lambda: bool(_Answers.heard))
    assert (last.phase, last.finish) == ("done", "cancelled")
    assert not _Answers.let_go.is_set()


def test_a_visitor_can_name_no_endpoint(models: Models, address: str) -> None:
    served = Served.parse(f"Other=m@{address}", None)
    for name in ("endpoint/", f"endpoint/{address}", f"endpoint/Evil=m@{address}"):
        assert "not in the list" in (final(models, served, name).error or "")
    assert _Answers.heard == []


def test_choices_are_the_runs_checkpoints_then_the_served_models(models: Models) -> None:
    writers = Writers(models, (Served.parse("Other=m@http://127.0.0.1:1/v1", None),))
    assert [choice.title for choice in writers.choices("en")] == ["Base", "SFT", "Reward model", "RL", "Other"]
    assert "http" not in str(writers.choices("en"))


def test_with_no_run_the_served_models_come_first(tmp_path: Path) -> None:
    writers = Writers(Models([tmp_path], 1), (Served.parse("Other=m@http://127.0.0.1:1/v1", None),))
    assert writers.defaults() == ["endpoint/Other"]


@pytest.mark.parametrize("wrong", ["", "Other", "Other=m", "=m@http://h/v1", "Other=m@ftp://h", "Other=m@http://user:password@h/v1"])
def test_an_endpoint_of_another_shape_is_refused(wrong: str) -> None:
    with pytest.raises(UserError):
        Served.parse(wrong, None)
