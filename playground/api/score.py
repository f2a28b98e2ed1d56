"""``/v1/score``: what a reward model thinks of conversations."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from modelkit.chat import Message, encode_chat
from modelkit.context import longest_served
from playground.api.gate import check_messages, check_prompt_tokens, check_samples
from playground.api.refusals import Refused
from playground.api.service import Service, record_of
from playground.api.wishes import ScoreWish
from playground.models import LoadedReward


def routes(service: Service) -> APIRouter:
    """The route, ready to be included."""
    router = APIRouter()

    @router.post("/v1/score")
    async def score(wish: ScoreWish, request: Request) -> Response:
        record, conversations = record_of(request), wish.all()
        check_messages(service.limits, conversations)
        check_samples(service.limits, len(conversations), 1, None)
        judge = await service.judge(wish.model, record)
        sequences = await run_in_threadpool(_encode, judge, conversations)
        check_prompt_tokens(service.limits, sequences)
        record.read = sum(map(len, sequences))
        rewards = await service.on_thread(request, judge.worker, lambda between: judge.model.score_ids(sequences, between=between))
        data = [
            {
                "object": "score",
                "index": index,
                "score": reward,
                "percentile": judge.reference.percentile(reward) if judge.reference else None,
            }
            for index, reward in enumerate(rewards)
        ]
        used = {"prompt_tokens": record.read, "total_tokens": record.read}
        return JSONResponse({"id": record.id, "object": "list", "model": record.model, "data": data, "usage": used})

    return router


def _encode(judge: LoadedReward, conversations: Sequence[Sequence[Message]]) -> list[list[int]]:
    """Token ids of each conversation, exactly those that the model was trained on.

    :raises Refused: when one is longer than the model reads: a reward of a part would be the reward of something else.
    """
    sequences = [encode_chat(judge.model.tokenizer, messages, last_only=True).ids for messages in conversations]
    context = longest_served(judge.model.model.config)
    if context is not None and (longest := max(map(len, sequences))) > context:
        said = f"a conversation has {longest} tokens, more than this model's context length of {context}: shorten it"
        raise Refused(400, said, "context_length_exceeded")
    return sequences
