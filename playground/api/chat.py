"""``/v1/chat/completions``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from modelkit.chat import reply_lead, stop_ids
from modelkit.errors import UserError
from playground.api.answers import ChatShape, EventStream
from playground.api.gate import check_messages, check_samples
from playground.api.refusals import Refused
from playground.api.service import Service, record_of
from playground.api.tokens import TokenTexts
from playground.api.wishes import ChatWish, conversation
from playground.fitting import fit

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def routes(service: Service) -> APIRouter:
    """The route, ready to be included."""
    router = APIRouter()

    @router.post("/v1/chat/completions")
    async def chat(wish: ChatWish, request: Request) -> Response:
        record, messages = record_of(request), conversation(wish.messages, "user")
        check_messages(service.limits, [messages])
        check_samples(service.limits, 1, wish.n, wish.longest)
        await run_in_threadpool(service.check_words, [message["content"] for message in messages], wish.logprobs)
        tokens = wish.longest or service.limits.tokens
        loaded = await service.writer(wish.model, record)
        if loaded.tokenizer.chat_template is None:
            raise Refused(422, f"{record.model} is a base model without a chat template: ask it at /v1/completions", param="model")
        ids, _, dropped = await run_in_threadpool(fit, loaded.tokenizer, messages, loaded.engine.context, tokens)
        record.read = len(ids)
        stop, lead = stop_ids(loaded.tokenizer, loaded.model), _blank_lead(loaded.tokenizer)
        shape = ChatShape(record, TokenTexts(loaded.tokenizer), stop, wish.logprobs, lead, dropped_turns=dropped)
        writing = service.write(loaded, [ids], wish, tokens, wish.top_logprobs, False, record)
        headers = {"X-Dropped-Turns": str(dropped)}
        if wish.stream:
            return EventStream(shape.events(writing, wish.stream_options.include_usage), writing, headers)
        return await shape.respond(await service.samples(request, writing, record), headers)

    return router


def _blank_lead(tokenizer: PreTrainedTokenizerBase) -> str:
    """The blank that the template writes before a reply, or nothing."""
    try:
        return " " if reply_lead(tokenizer) == " " else ""
    except UserError:  # it doesn't write turns again as they were
        return ""
