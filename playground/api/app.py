"""The application: routes behind one door."""

from __future__ import annotations

from fastapi import FastAPI

from playground.api import chat, completions, listing, refusals, score
from playground.api.access import Access
from playground.api.service import Service


def create(service: Service) -> FastAPI:
    """The ASGI application; it has no pages of its own, since FastAPI's would load from elsewhere."""
    app = FastAPI(title="RLHF Playground", openapi_url="/v1/openapi.json", docs_url=None, redoc_url=None)
    for module in (listing, chat, completions, score):
        app.include_router(module.routes(service))
    refusals.install(app)
    app.add_middleware(Access, service=service)
    return app
