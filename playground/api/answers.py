"""The shapes of an answer: OpenAI's chat completions and completions, whole and as a stream of events."""

from __future__ import annotations

import json
import math
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from modelkit.generation.requests import Sample
from playground.api.bridge import Writing
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

    def answer(self, samples: Sequence[Sample]) -> dict[str, Any]:
        """Everything at once.

        :raises Refused: when a sample has failed.
        """
        failed = next((sample.error for sample in samples if sample.error), None)
        if failed:
            raise Refused(503, failed, "generation_failed", retry_after=BUSY_SECONDS)
        choices = [self.choice(number, sample) for number, sample in enumerate(samples)]
        return {**self._head, "object": self.whole, "choices": choices, "usage": usage(self.record)}

    async def events(self, writing: Writing, with_usage: bool, echoed: Sequence[Sample] = ()) -> AsyncIterator[str]:
        """The same bit by bit, as server-sent events; ``echoed`` has what each sample begins with."""
        for number, sample in enumerate(echoed):
            yield self._event(self.delta(number, sample))
        for opening in filter(None, map(self.opening, range(writing.count))):
            yield self._event(opening)
        async for arrived in writing:
            gained: dict[int, Sample] = defaultdict(Sample)
            for number, piece in arrived:
                gained[number].add(piece)
            self.record.note(writing, sum(len(sample.ids) for sample in gained.values()))
            told = [self.delta(number, sample) for number, sample in gained.items() if sample.text or _reason(sample) or self._tells]
            if told:
                yield "".join(map(self._event, told))
            failed = next((sample.error for sample in gained.values() if sample.error), None)
            if failed:
                yield f"data: {json.dumps(error(503, failed, 'generation_failed'), ensure_ascii=False)}\n\n"
                break
        yield self._end(with_usage)

    async def at_once(self, samples: Sequence[Sample], with_usage: bool) -> AsyncIterator[str]:
        """Samples that are finished already, as events."""
        for number, sample in enumerate(samples):
            yield self._event(self.delta(number, sample))
        yield self._end(with_usage)

    def _event(self, choice: dict[str, Any]) -> str:
        return f'{self._start}, "choices": [{json.dumps(choice, ensure_ascii=False)}]}}\n\n'

    def _end(self, with_usage: bool) -> str:
        counts = f'{self._start}, "choices": [], "usage": {json.dumps(usage(self.record))}}}\n\n' if with_usage else ""
        return counts + "data: [DONE]\n\n"


class ChatShape(Shape):
    """``chat.completion`` and its chunks."""

    whole, event = "chat.completion", "chat.completion.chunk"

    def choice(self, number: int, sample: Sample) -> dict[str, Any]:
        message = {"role": "assistant", "content": sample.text.strip(), "refusal": None}
        return {"index": number, "message": message, "logprobs": self._logprobs(sample), "finish_reason": _reason(sample)}

    def delta(self, number: int, sample: Sample) -> dict[str, Any]:
        return {
            "index": number,
            "delta": {"content": sample.text} if sample.text or not sample.finish else {},
            "logprobs": self._logprobs(sample),
            "finish_reason": _reason(sample),
        }

    def opening(self, number: int) -> dict[str, Any]:
        return {"index": number, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}

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
    count on one token being there after an echoed prompt."""

    whole = event = "text_completion"

    def __init__(self, record: Record, texts: TokenTexts, stop: Sequence[int], tells: bool, **more: Any) -> None:
        super().__init__(record, texts, stop, tells, **more)
        self._offsets: dict[int, int] = defaultdict(int)

    def choice(self, number: int, sample: Sample) -> dict[str, Any]:
        return {"index": number, "text": sample.text, "logprobs": self._logprobs(number, sample), "finish_reason": _reason(sample)}

    delta = choice

    def _logprobs(self, number: int, sample: Sample) -> dict[str, Any] | None:
        if not self._tells:
            return None
        tokens, offsets = [self._texts.text(token) for token in sample.ids], []
        for token in tokens:
            offsets.append(self._offsets[number])
            self._offsets[number] += len(token)
        values = [None if math.isnan(logprob) else _number(logprob) for logprob in sample.logprobs]
        # where two tokens read the same, the likelier one stands
        tops = [{self._texts.text(one): _number(chance) for one, chance in reversed(top)} for top in sample.tops]
        told = [top if value is not None else None for top, value in zip(tops, values, strict=True)]
        return {"tokens": tokens, "token_logprobs": values, "top_logprobs": told, "text_offset": offsets}


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
