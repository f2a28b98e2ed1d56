"""``/v1/completions``: texts or token ids go on, and with ``echo`` their own tokens are told, as evaluation harnesses need."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import replace

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from modelkit.chat import stop_ids
from modelkit.generation.requests import Sample
from modelkit.generation.stream import LONGEST_CHARACTER, TextStream
from modelkit.scoring.forward import Likeliest
from playground.api.answers import CompletionShape, EventStream
from playground.api.gate import check_samples, check_texts
from playground.api.reading import read_prompts
from playground.api.service import Service, record_of
from playground.api.tokens import TokenTexts
from playground.api.wishes import CompletionWish
from playground.models import Loaded


def routes(service: Service) -> APIRouter:
    """The route, ready to be included."""
    router = APIRouter()

    @router.post("/v1/completions")
    async def complete(wish: CompletionWish, request: Request) -> Response:
        record = record_of(request)
        check_texts(service.limits, [prompt for prompt in wish.prompt if isinstance(prompt, str)])
        check_samples(service.limits, len(wish.prompt), wish.n, wish.max_tokens)
        loaded = await service.writer(wish.model, record)
        prompts = await run_in_threadpool(_encode, loaded, wish.prompt)
        record.read = sum(map(len, prompts))
        if service.words:
            service.check_prompts(loaded, prompts, room=0)
            service.check_words(_texts(loaded, wish), wish.logprobs is not None)
        stop = stop_ids(loaded.tokenizer, loaded.model)
        shape = CompletionShape(record, TokenTexts(loaded.tokenizer), stop, wish.logprobs is not None)
        echoed, following = await _echo(service, request, loaded, prompts, wish) if wish.echo else ([], [])
        with_usage = wish.stream_options.include_usage
        if wish.max_tokens == 0 or (following and _takes_the_likeliest(wish)):
            if wish.max_tokens:
                pairs = zip(echoed, following, strict=True)
                echoed = [_with(loaded, echo, likeliest, wish, stop) for echo, likeliest in pairs]
                record.written = len(prompts) * wish.n
            samples = [replace(echo, finish=echo.finish or "length") for echo in echoed for _ in range(wish.n)]
            return EventStream(shape.at_once(samples, with_usage)) if wish.stream else JSONResponse(shape.answer(samples))
        writing = service.write(loaded, prompts, wish, wish.max_tokens, wish.logprobs or 0, True, record)
        before = [echo for echo in echoed for _ in range(wish.n)]
        if wish.stream:
            return EventStream(shape.events(writing, with_usage, before), writing)
        samples = await service.samples(request, writing, record)
        if before:
            samples = [_joined(echo, sample) for echo, sample in zip(before, samples, strict=True)]
        return JSONResponse(shape.answer(samples))

    return router


def _encode(loaded: Loaded, prompts: Sequence[str] | Sequence[list[int]]) -> list[list[int]]:
    """Token ids; texts get the special tokens that their tokenizer puts around them."""
    return [list(loaded.tokenizer(prompt, verbose=False)["input_ids"]) if isinstance(prompt, str) else prompt for prompt in prompts]


def _texts(loaded: Loaded, wish: CompletionWish) -> list[str]:
    """The prompts as they read."""
    return [said if isinstance(said, str) else str(loaded.tokenizer.decode(said, skip_special_tokens=True)) for said in wish.prompt]


async def _echo(
    service: Service, request: Request, loaded: Loaded, prompts: list[list[int]], wish: CompletionWish
) -> tuple[list[Sample], list[Likeliest]]:
    """The prompts as the beginnings of their answers and, where they are read for their log-probabilities, what is likeliest next."""
    service.check_prompts(loaded, prompts, room=0)
    texts = _texts(loaded, wish)
    if wish.logprobs is None:
        nothing = [Sample(text, ids, [math.nan] * len(ids), [()] * len(ids)) for text, ids in zip(texts, prompts, strict=True)]
        return nothing, []
    top, stopped = wish.logprobs, threading.Event()
    try:
        found = await service.on_thread(request, loaded.worker, lambda: read_prompts(loaded, prompts, top, stopped.is_set))
    finally:
        stopped.set()
    for text, (sample, _) in zip(texts, found, strict=True):
        sample.text = text
    return [sample for sample, _ in found], [likeliest for _, likeliest in found]


def _takes_the_likeliest(wish: CompletionWish) -> bool:
    """Whether the one token that is asked for is known from reading the prompt."""
    return wish.max_tokens == 1 and wish.temperature == 0 and wish.repetition_penalty == 1


def _with(loaded: Loaded, prompt: Sample, likeliest: Likeliest, wish: CompletionWish, stop: Sequence[int]) -> Sample:
    """*prompt* and the likeliest token after it."""
    (token, logprob), *_ = likeliest
    stream = TextStream(loaded.tokenizer, wish.stop, prompt.ids[-LONGEST_CHARACTER:])
    text = "" if token in stop else stream.put(token) + stream.flush()
    ended = token in stop or stream.finished
    return _joined(prompt, Sample(text, [token], [logprob], [tuple(likeliest[: wish.logprobs])], "stop" if ended else "length"))


def _joined(prompt: Sample, sample: Sample) -> Sample:
    text, ids, tops = prompt.text + sample.text, prompt.ids + sample.ids, prompt.tops + sample.tops
    return Sample(text, ids, prompt.logprobs + sample.logprobs, tops, sample.finish, sample.error)
