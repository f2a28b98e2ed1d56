"""``/v1/completions``: texts or token ids go on, and with ``echo`` their own tokens are told, as evaluation harnesses need."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from modelkit.chat import stop_ids
from modelkit.generation.requests import Sample
from modelkit.generation.stream import LONGEST_CHARACTER, TextStream
from modelkit.scoring.forward import Likeliest
from playground.api.answers import CompletionShape, EventStream
from playground.api.gate import check_prompt_tokens, check_samples, check_texts
from playground.api.offsets import Offsets, offsets_in
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
        prompts = await run_in_threadpool(_encode, service, loaded, wish)
        record.read = sum(map(len, prompts))
        stop = stop_ids(loaded.tokenizer, loaded.model)
        echoed, following = await _echo(service, request, loaded, prompts, wish) if wish.echo else ([], [])
        offsets = await run_in_threadpool(_offsets, loaded, prompts, echoed, wish.n) if wish.logprobs is not None else []
        shape = CompletionShape(record, TokenTexts(loaded.tokenizer), stop, offsets)
        with_usage = wish.stream_options.include_usage
        if wish.max_tokens == 0 or (following and _takes_the_likeliest(wish)):
            if wish.max_tokens:
                pairs = zip(echoed, following, strict=True)
                echoed = [_with(loaded, echo, likeliest, wish, stop) for echo, likeliest in pairs]
                record.written = len(prompts) * wish.n
            samples = [replace(echo, finish=echo.finish or "length") for echo in echoed for _ in range(wish.n)]
            return EventStream(shape.at_once(samples, with_usage)) if wish.stream else await shape.respond(samples)
        writing = service.write(loaded, prompts, wish, wish.max_tokens, wish.logprobs or 0, True, record)
        before = [echo for echo in echoed for _ in range(wish.n)]
        if wish.stream:
            return EventStream(shape.events(writing, with_usage, before), writing)
        samples = await service.samples(request, writing, record)
        if before:
            samples = [_joined(echo, sample) for echo, sample in zip(before, samples, strict=True)]
        return await shape.respond(samples)

    return router


def _encode(service: Service, loaded: Loaded, wish: CompletionWish) -> list[list[int]]:
    """Token ids; texts get the special tokens that their tokenizer puts around them.

    :raises Refused: when they are too many, no tokens of this model, or say what the operator doesn't allow.
    """
    prompts = [list(loaded.tokenizer(said, verbose=False)["input_ids"]) if isinstance(said, str) else said for said in wish.prompt]
    check_prompt_tokens(service.limits, prompts)
    service.check_prompts(loaded, prompts, room=0)
    if service.words:
        service.check_words(_texts(loaded, wish), wish.logprobs is not None)
    return prompts


def _texts(loaded: Loaded, wish: CompletionWish) -> list[str]:
    """The prompts as they read."""
    return [said if isinstance(said, str) else str(loaded.tokenizer.decode(said, skip_special_tokens=True)) for said in wish.prompt]


async def _echo(
    service: Service, request: Request, loaded: Loaded, prompts: list[list[int]], wish: CompletionWish
) -> tuple[list[Sample], list[Likeliest]]:
    """The prompts as the beginnings of their answers and, where they are read for their log-probabilities, what is likeliest next."""
    texts = await run_in_threadpool(_texts, loaded, wish)
    if wish.logprobs is None:
        nothing = [Sample(text, ids, [math.nan] * len(ids), [()] * len(ids)) for text, ids in zip(texts, prompts, strict=True)]
        return nothing, []
    top = wish.logprobs
    found = await service.on_thread(request, loaded.worker, lambda between: read_prompts(loaded, prompts, top, between))
    for text, (sample, _) in zip(texts, found, strict=True):
        sample.text = text
    return [sample for sample, _ in found], [likeliest for _, likeliest in found]


def _offsets(loaded: Loaded, prompts: list[list[int]], echoed: list[Sample], n: int) -> list[Offsets]:
    """What places the tokens of each sample in its text."""
    if not echoed:
        return [Offsets(loaded.tokenizer, ids) for ids in prompts for _ in range(n)]
    begun = [(echo, offsets_in(echo.text, echo.ids, loaded.tokenizer)) for echo in echoed]
    return [Offsets(loaded.tokenizer, echo.ids, places, len(echo.text)) for echo, places in begun for _ in range(n)]


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
