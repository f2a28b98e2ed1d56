"""Asking a server in this process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from playground.api.app import create
from playground.api.limits import Limits
from playground.api.service import Service
from playground.guard.content_filter import WordFilter
from playground.guard.credentials import Credentials
from playground.models import Models

ASK = [{"role": "user", "content": "What is seven plus five?"}]
CHAT, COMPLETE, SCORE = "/v1/chat/completions", "/v1/completions", "/v1/score"
PLENTY = Limits()


@asynccontextmanager
async def asking(
    models: Models, limits: Limits = PLENTY, key: str | None = None, words: WordFilter | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server in this process."""
    transport = httpx.ASGITransport(create(Service(models, limits, Credentials(key=key), words)))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


def posted(models: Models, path: str, body: Any, limits: Limits = PLENTY) -> httpx.Response:
    async def post() -> httpx.Response:
        async with asking(models, limits) as client:
            content = body if isinstance(body, bytes) else json.dumps(body)
            return await client.post(path, content=content, headers={"Content-Type": "application/json"})

    return asyncio.run(post())


def chat(**more: Any) -> dict[str, Any]:
    return {"model": "pocket/sft", "messages": ASK, "max_tokens": 4, **more}


def said(*turns: str) -> list[dict[str, str]]:
    """A conversation, from roles."""
    return [{"role": role, "content": role} for role in turns]
