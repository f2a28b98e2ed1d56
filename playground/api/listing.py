"""What is served, whether it is well, and what it has done: ``/v1/models``, ``/health``, ``/metrics``."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST

from modelkit import checkpoint
from modelkit.context import longest_served
from modelkit.device import import_transformers
from modelkit.errors import UserError
from playground.api.refusals import Refused
from playground.api.service import Service
from playground.entries import Entry, written


def routes(service: Service) -> APIRouter:
    """The routes, ready to be included."""
    router, models = APIRouter(), service.models
    service.meters.watch(models.loaded)

    @router.get("/v1/models")
    def listed() -> Response:
        loaded = models.loaded()
        return JSONResponse({"object": "list", "data": [_told(entry, entry.id in loaded) for entry in models.catalogue()]})

    @router.get("/v1/models/{name:path}")
    def one(name: str) -> Response:
        try:
            entry = models.entry(name)
        except UserError:
            raise Refused(404, f"there is no model {name!r} here", "model_not_found", "model") from None
        return JSONResponse(_told(entry, name in models.loaded()))

    @router.get("/health")
    async def health() -> Response:
        return JSONResponse({"status": "ok", "at_work": service.gate.inside, "loaded": list(models.loaded())})

    @router.get("/metrics")
    async def metrics() -> Response:
        return Response(service.meters.page(), media_type=CONTENT_TYPE_LATEST)

    return router


def _told(entry: Entry, loaded: bool) -> dict[str, Any]:
    told: dict[str, Any] = {"id": entry.id, "object": "model", "owned_by": entry.run.info.name if entry.run else "rlhf-playground"}
    try:
        since = written(entry.path)
        told |= {"created": since // 10**9, "max_model_len": _context(entry.path, since)}
    except UserError:  # just gone from the disk
        told |= {"created": 0}
    return {**told, "kind": entry.kind, "loaded": loaded}


@lru_cache(maxsize=256)
def _context(path: Path, written: int) -> int | None:
    """The longest sequence in tokens, without loading the model; ``None`` where its configuration doesn't tell."""
    import_transformers()
    from transformers import AutoConfig

    config = dict(checkpoint.check(path))
    try:
        return longest_served(AutoConfig.for_model(config.pop("model_type"), **config))
    except (KeyError, ValueError):
        return None
