"""A judge behind a real HTTP server: it reads what it is asked like a strict, simple-minded person, and misbehaves on request."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.evalkit.served import Reply, error

NAME = "strict-judge"
Script = Callable[[int, dict[str, Any]], Reply | None]
"""(how many questions came before, body) → a reply, or ``None`` for the judge's own."""


def completion(text: str, finish: str = "stop", read: int = 100, written: int = 20) -> Reply:
    """*text* as a chat completion."""
    usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}
    return Reply(body=json.dumps({"id": "x", "object": "chat.completion", "created": 0, "choices": [choice], "usage": usage}).encode())


def marked(name: str, text: str) -> str:
    """What stands between the marks called *name* (the last ones that open and close with the same key)."""
    found = re.findall(rf"<{name} ([0-9a-f]{{10}})>\n(.*?)\n</{name} \1>", text, flags=re.DOTALL)
    return found[-1][1] if found else ""


@dataclass
class JudgeServer:
    """What the judge takes (``structured``, ``temperature``), how it scores an answer's text, and all that it was asked.

    :param first: always name the first answer, whatever it says: a judge with a position bias.
    """

    structured: bool = True
    temperature: bool = True
    limit: str = "max_tokens"
    first: bool = False
    score: Callable[[str], int] = lambda answer: min(10, 1 + len(answer))
    script: Script = lambda number, body: None
    asked: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    def answer(self, path: str, body: dict[str, Any]) -> Reply:
        """The reply to one request."""
        if path != "/v1/chat/completions":
            return error(404, "Not Found")
        if body["model"] != NAME:
            return error(404, f"The model {body['model']} does not exist", "model_not_found")
        if self.limit not in body or (not self.temperature and "temperature" in body):
            return error(400, "Unsupported parameter")
        said = body["messages"][-1]["content"]
        wanted = "response_format" in body
        if '{"ready": true}' in said:
            return completion('{"ready": true}' if self.structured and wanted else "Ready!")
        with self._lock:
            number = len(self.asked)
            self.asked.append(body)
        scripted = self.script(number, body)
        return scripted if scripted is not None else completion(self.verdict(body["messages"], wanted and self.structured))

    def verdict(self, messages: list[dict[str, str]], structured: bool) -> str:
        """What the judge makes of the answers between their marks."""
        asked = next(message["content"] for message in messages if message["role"] == "user")
        if marked("answer A", asked):
            a, b = (self.score(marked(f"answer {side}", asked)) for side in "AB")
            named = "A" if self.first or a > b else "B" if b > a else "tie"
            mark = {"A": "[[A]]", "B": "[[B]]", "tie": "[[C]]"}[named]
            return json.dumps({"reason": f"{a} : {b}", "winner": named}) if structured else f"A has {a}, B has {b}.\n{mark}"
        score = self.score(marked("answer", asked))
        names = re.findall(r"^- (\w+): ", asked, flags=re.MULTILINE)
        if structured:
            criteria = {name: {"reason": "seen", "score": score} for name in names}
            return json.dumps({"criteria": criteria, "reason": "as a whole", "score": score})
        return "\n".join([*(f"{name}: seen [[{score}]]" for name in names), f"overall: as a whole [[{score}]]"])


@contextmanager
def judging(server: JudgeServer) -> Iterator[JudgeServer]:
    """Run the judge on a free port for a block; its address is ``server.url``."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            reply = server.answer(self.path, body)
            self.send_response(reply.status)
            for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            if reply.cut:
                self.wfile.write(reply.body[: len(reply.body) // 2])
                self.close_connection = True
            elif reply.drip:
                for byte in reply.body:
                    if stop.wait(reply.drip):
                        return
                    self.wfile.write(bytes([byte]))
            else:
                self.wfile.write(reply.body)

        def log_message(self, format: str, *args: object) -> None:
            return

        def handle(self) -> None:
            try:
                super().handle()
            except OSError:
                self.close_connection = True  # the client went away

    stop = threading.Event()
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever, args=(0.01,))
    thread.start()
    server.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
    try:
        yield server
    finally:
        stop.set()
        http.shutdown()
        http.server_close()
        thread.join()
