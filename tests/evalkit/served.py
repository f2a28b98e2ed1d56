"""A tiny model behind a real HTTP server that speaks OpenAI's protocol, and misbehaves on request."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from modelkit.chat import PLAIN_TEMPLATE, render_prompt
from modelkit.checkpoint import StageInfo, load_model, load_tokenizer, save
from tests.evalkit.tiny import tiny_model

KEY = "sk-secret"


@dataclass(frozen=True)
class Reply:
    """What the server sends instead of an answer: ``cut`` closes the connection half-way, ``drip`` sends one byte at a time."""

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    drip: float = 0.0


Script = Callable[[int, str, dict[str, Any]], Reply | None]
"""(how many requests came before, path, body) → a reply, or ``None`` for the model's own answer."""


def error(status: int, message: str, code: str | None = None, **headers: str) -> Reply:
    """A refusal as OpenAI words it."""
    body = json.dumps({"error": {"message": message, "type": "x", "code": code}}).encode()
    return Reply(status, body, {name.replace("_", "-"): value for name, value in headers.items()})


@dataclass
class Served:
    """The server's side of a test: what it offers, what it was asked, and what it is told to do."""

    checkpoint: Path
    name: str = "tiny"
    tops: int = 20
    echo: bool = True
    completions: bool = True
    chat: bool = True
    context: int = 192
    key: str | None = None
    llama_cpp: bool = False
    script: Script = lambda number, path, body: None
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    url: str = ""

    def __post_init__(self) -> None:
        self._model, self._tokenizer = load_model(self.checkpoint), load_tokenizer(self.checkpoint)
        self._lock = threading.Lock()

    @property
    def questions(self) -> int:
        """How many requests came after those that find out what the server can do."""
        return sum(PROBE not in json.dumps(body) for _, body in self.asked if body)

    def answer(self, path: str, body: dict[str, Any], key: str) -> Reply:
        """The reply to one request."""
        with self._lock:
            number = len(self.asked)
            self.asked.append((path, body))
            if (scripted := self.script(number, path, body)) is not None:
                return scripted
            if self.key is not None and key != f"Bearer {self.key}":
                return error(401, "Incorrect API key provided", "invalid_api_key")
            if path == "/v1/models":
                entry = {"id": self.name, "object": "model", "created": int(time.time()), "max_model_len": self.context}
                return Reply(body=json.dumps({"object": "list", "data": [entry]}).encode())
            if body["model"] != self.name:
                return error(404, f"The model {body['model']} does not exist", "model_not_found")
            if path == "/v1/completions" and self.completions:
                return self._complete(body, body["prompt"], body.get("logprobs") or 0)
            if path == "/v1/chat/completions" and self.chat:
                return self._complete(body, render_prompt(self._tokenizer, body["messages"]), body.get("top_logprobs") or 0)
            return error(404, "Not Found")

    @torch.inference_mode()
    def _complete(self, body: dict[str, Any], prompt: str | list[int], top: int) -> Reply:
        if top > max(self.tops, 5):
            return error(400, f"at most {self.tops} logprobs are allowed")
        chat = "messages" in body
        ids: list[int] = list(prompt) if isinstance(prompt, list) else self._tokenizer(prompt, add_special_tokens=not chat)["input_ids"]
        if len(ids) + body["max_tokens"] > self.context:
            return error(400, f"This model's maximum context length is {self.context} tokens, you asked for {len(ids)}.")
        start = len(ids)
        for _ in range(body["max_tokens"]):
            ids.append(int(self._model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        logprobs = self._model(input_ids=torch.tensor([ids])).logits[0].float().log_softmax(-1)
        rows = [None, *logprobs[:-1]]
        first = 0 if body.get("echo") and self.echo else start
        text = str(self._tokenizer.decode(ids[start:]))
        for mark in body.get("stop", []):
            text = text.split(mark)[0]
        choice: dict[str, Any] = {"index": 0, "finish_reason": "length"}
        if top and self.tops:
            places = range(first, len(ids))
            if chat or self.llama_cpp:
                content = [{**self._token(rows[i], ids[i]), "top_logprobs": self._likeliest(rows[i], top)} for i in places if i]
                choice["logprobs"] = {"content": content}
            else:
                choice["logprobs"] = {
                    "tokens": [self._text(ids[i]) for i in places],
                    "token_logprobs": [None if rows[i] is None else float(rows[i][ids[i]]) for i in places],
                    "top_logprobs": [
                        None if rows[i] is None else {one["token"]: one["logprob"] for one in reversed(self._likeliest(rows[i], top))}
                        for i in places
                    ],
                }
        choice |= {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        usage = {"prompt_tokens": start, "completion_tokens": len(ids) - start, "total_tokens": len(ids), "prompt_tokens_details": None}
        return Reply(body=json.dumps({"id": "x", "object": "x", "created": 0, "choices": [choice], "usage": usage}).encode())

    def _likeliest(self, row: torch.Tensor, top: int) -> list[dict[str, Any]]:
        return [self._token(row, token) for token in row.topk(min(top, self.tops)).indices.tolist()]

    def _token(self, row: torch.Tensor, token: int) -> dict[str, Any]:
        return {"token": self._text(token), "logprob": float(row[token]), "bytes": None}

    def _text(self, token: int) -> str:
        return str(self._tokenizer.decode([token]))


PROBE = "One, two, three, four,"


@contextmanager
def serve(served: Served) -> Iterator[Served]:
    """Run the server on a free port for a block; its address is ``served.url``."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(served.answer(self.path, {}, self.headers.get("Authorization", "")))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._send(served.answer(self.path, body, self.headers.get("Authorization", "")))

        def _send(self, reply: Reply) -> None:
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

        def handle(self) -> None:
            with suppress(OSError):  # the client went away
                super().handle()

        def log_message(self, format: str, *args: object) -> None:
            return

    stop = threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield served
    finally:
        stop.set()
        server.shutdown()
        server.server_close()
        thread.join()


def letter_checkpoint(path: Path) -> None:
    """A tiny model that has learnt to say some letter after ``Answer:``, with a tokenizer in which `` A`` … `` D`` are tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=330, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(["A B C D A B C D Answer: Question: What is the capital of"] * 9, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 0)])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    fast.chat_template = PLAIN_TEMPLATE
    model = tiny_model(3)
    model.resize_token_embeddings(len(fast))
    texts = [f"{question}\nAnswer: {letter}" for question in ("What is it?", "Who?", "D. four", "capital of land 7?") for letter in "ABCD"]
    rows = [fast(text)["input_ids"] for text in texts]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(60):
        ids = torch.tensor([rows[step % len(rows)]])
        loss = -model(input_ids=ids).logits[0, -2].log_softmax(-1)[ids[0, -1]]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    save(model.eval(), fast, path, StageInfo(stage="sft"))
