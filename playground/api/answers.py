"""The shapes of an answer: OpenAI's chat completions and completions, whole and as a stream of events."""

from __future__ import annotations

import json
import math
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from fastapi.responses import JSONResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from modelkit.generation.requests import Sample
from playground.api.bridge import Writing
from playground.api.offsets import Offsets
from playground.api.refusals import Refused, error
from playground.api.service import BUSY_SECONDS, Record
from playground.api.tokens import TokenTexts

_LEAST = -9999.0
"""Stands for a probability of zero, whose logarithm JSON can't write."""
_REASONS = {"stop": "stop", "length": "length", "deadline": "length", "cancelled": "stop"}


class Shape(ABC):
    """One answer in the making. ``whole`` and ``event`` name the two kinds of object.

    :param stop: ids of tokens that end a sample and are no part of its text.
    :param tells: whether log-probabilities are wanted.
    """

    whole: str
    event: str

    def __init__(self, record: Record, texts: TokenTexts, stop: Sequence[int], tells: bool, **more: Any) -> None:
        self.record, self._texts, self._stop, self._tells = record, texts, frozenset(stop), tells
        self._head = {"id": record.id, "created": int(time.time()), "model": record.model, **more}
        self._start = f"data: {json.dumps({**self._head, 'object': self.event}, ensure_ascii=False)[:-1]}"

    @abstractmethod
    def choice(self, number: int, sample: Sample) -> dict[str, Any]:
        """A finished sample."""

    @abstractmethod
    def delta(self, number: int, sample: Sample) -> dict[str, Any]:
        """What a sample has gained."""

    def opening(self, number: int) -> dict[str, Any] | None:
        """What a sample begins with before anything is written."""
        return None

    async def respond(self, samples: Sequence[Sample], headers: Mapping[str, str] | None = None) -> JSONResponse:
        """Everything at once. Log-probabilities can make that long, so it is written on another thread than the event loop's.

        :raises Refused: when a sample has failed.
        """
        return await run_in_threadpool(lambda: JSONResponse(self._answer(samples), headers=headers))

    def _answer(self, samples: Sequence[Sample]) -> dict[str, Any]:
        failed = next((sample.error for sample in samples if sample.error), None)
        if failed:
            raise Refused(503, failed, "generation_failed", retry_after=BUSY_SECONDS)
        choices = [self.choice(number, sample) for number, sample in enumerate(samples)]
        return {**self._head, "object": self.whole, "choices": choices, "usage": usage(self.record)}

    async def events(self, writing: Writing, with_usage: bool, echoed: Sequence[Sample] = ()) -> AsyncIterator[str]:
        """The same bit by bit, as server-sent events; ``echoed`` has what each sample begins with."""
        for number, sample in enumerate(echoed):
            yield await run_in_threadpool(self._gain, number, sample)
        for opening in filter(None, map(self.opening, range(writing.count))):
            yield self._event(opening)
        async for arrived in writing:
            gained: dict[int, Sample] = defaultdict(Sample)
            for number, piece in arrived:
                gained[number].add(piece)
            self.record.note(writing, sum(len(sample.ids) for sample in gained.values()))
            told = [self._gain(number, sample) for number, sample in gained.items() if sample.text or _reason(sample) or self._tells]
            if told:
                yield "".join(told)
            failed = next((sample.error for sample in gained.values() if sample.error), None)
            if failed:
                yield f"data: {json.dumps(error(503, failed, 'generation_failed'), ensure_ascii=False)}\n\n"
                break
        yield self._end(with_usage)

    async def at_once(self, samples: Sequence[Sample], with_usage: bool) -> AsyncIterator[str]:
        """Samples that are finished already, as events."""
        for number, sample in enumerate(samples):
            yield await run_in_threadpool(self._gain, number, sample)
        yield self._end(with_usage)

    def _gain(self, number: int, sample: Sample) -> str:
        return self._event(self.delta(number, sample))

    def _event(self, choice: dict[str, Any]) -> str:
        return f'{self._start}, "choices": [{json.dumps(choice, ensure_ascii=False)}]}}\n\n'

    def _end(self, with_usage: bool) -> str:
        counts = f'{self._start}, "choices": [], "usage": {json.dumps(usage(self.record))}}}\n\n' if with_usage else ""
        return counts + "data: [DONE]\n\n"


class ChatShape(Shape):
    """``chat.completion`` and its chunks.

    :param lead: what the chat template writes before a reply by itself. Where the model has written it, it is no part of the text, so
        that a reply which comes back as a turn is read as it was written.
    """

    whole, event = "chat.completion", "chat.completion.chunk"

    def __init__(self, record: Record, texts: TokenTexts, stop: Sequence[int], tells: bool, lead: str, **more: Any) -> None:
        super().__init__(record, texts, stop, tells, **more)
        self._lead, self._begun = lead, set[int]()

    def choice(self, number: int, sample: Sample) -> dict[str, Any]:
        message = {"role": "assistant", "content": self._said(number, sample), "refusal": None}
        return {"index": number, "message": message, "logprobs": self._logprobs(sample), "finish_reason": _reason(sample)}

    def delta(self, number: int, sample: Sample) -> dict[str, Any]:
        return {
            "index": number,
            "delta": {"content": self._said(number, sample)} if sample.text or not sample.finish else {},
            "logprobs": self._logprobs(sample),
            "finish_reason": _reason(sample),
        }

    def opening(self, number: int) -> dict[str, Any]:
        return {"index": number, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}

    def _said(self, number: int, sample: Sample) -> str:
        if not sample.text or number in self._begun:
            return sample.text
        self._begun.add(number)
        return sample.text.removeprefix(self._lead)

    def _logprobs(self, sample: Sample) -> dict[str, Any] | None:
        if not self._tells:
            return None
        content = [
            {**self._texts.told(token, _number(logprob)), "top_logprobs": [self._texts.told(one, _number(chance)) for one, chance in top]}
            for token, logprob, top in zip(sample.ids, sample.logprobs, sample.tops, strict=True)
            if token not in self._stop
        ]
        return {"content": content, "refusal": None}


class CompletionShape(Shape):
    """``text_completion``, which is also the name of its chunks. Log-probabilities include the token that ended a sample: harnesses
    count on one token being there after an echoed prompt.

    :param offsets: those of each sample, where log-probabilities are wanted.
    """

    whole = event = "text_completion"

    def __init__(self, record: Record, texts: TokenTexts, stop: Sequence[int], offsets: Sequence[Offsets]) -> None:
        super().__init__(record, texts, stop, tells=bool(offsets))
        self._offsets = offsets

    def choice(self, number: int, sample: Sample) -> dict[str, Any]:
        return {"index": number, "text": sample.text, "logprobs": self._logprobs(number, sample), "finish_reason": _reason(sample)}

    delta = choice

    def _logprobs(self, number: int, sample: Sample) -> dict[str, Any] | None:
        if not self._tells:
            return None
        values = [None if math.isnan(logprob) else _number(logprob) for logprob in sample.logprobs]
        return {
            "tokens": [self._texts.text(token) for token in sample.ids],
            "token_logprobs": values,
            "top_logprobs": [
                None if value is None else self._likeliest([*top, (token, value)])
                for token, value, top in zip(sample.ids, values, sample.tops, strict=True)
            ],
            "text_offset": self._offsets[number].of(sample.ids),
        }

    def _likeliest(self, tokens: Sequence[tuple[int, float]]) -> dict[str, float]:
        told: dict[str, float] = {}
        for token, logprob in tokens:
            told.setdefault(self._texts.text(token), _number(logprob))  # where two read the same, the likelier one stands
        return told


class EventStream(StreamingResponse):
    """Server-sent events. However the response ends, *writing* ends before the engine's next step."""

    def __init__(self, events: AsyncIterator[str], writing: Writing | None = None, headers: Mapping[str, str] | None = None) -> None:
        unbuffered = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(events, media_type="text/event-stream", headers={**unbuffered, **(headers or {})})
        self._writing = writing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            if self._writing is not None:
                self._writing.cancel()


def usage(record: Record) -> dict[str, Any]:
    """Tokens read and written; ``cached_tokens`` of the former had been read before."""
    return {
        "prompt_tokens": record.read,
        "completion_tokens": record.written,
        "total_tokens": record.read + record.written,
        "prompt_tokens_details": {"cached_tokens": record.reused},
    }


def _reason(sample: Sample) -> str | None:
    return _REASONS.get(sample.finish or "")


def _number(logprob: float) -> float:
    return max(logprob, _LEAST)
