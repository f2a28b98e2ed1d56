"""What a request tells of its visitor: the language they read, and a name that says nothing about them; and what they are told."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr
from starlette.datastructures import Headers
from starlette.requests import cookie_parser

from modelkit.errors import UserError
from playground.guard.admission import Admission
from playground.texts import LANGUAGES, Language, language_of, t

_log = logging.getLogger(__name__)
LANGUAGE_COOKIE, THEME_COOKIE = "pg-language", "pg-theme"
"""What the switches in the page's head keep, in the browser alone. Without them the browser's own wishes count."""


def language(request: gr.Request) -> Language:
    """The language chosen on the page, else the one the browser asks for."""
    return chosen_language(request.cookies.get(LANGUAGE_COOKIE), request.headers.get("accept-language"))


def language_of_headers(headers: Headers) -> Language:
    """The same of a request that Gradio hasn't seen yet."""
    return chosen_language(cookie_parser(headers.get("cookie", "")).get(LANGUAGE_COOKIE), headers.get("accept-language"))


def chosen_language(cookie: str | None, accept_language: str | None) -> Language:
    """The cookie's language where it is one of ours, else that of the ``Accept-Language`` header."""
    return cookie if cookie in LANGUAGES else language_of(accept_language)


def session(request: gr.Request) -> str:
    """The tab's name: random, new with every load of the page."""
    return request.session_hash or secrets.token_hex(8)


@contextmanager
def told() -> Iterator[None]:
    """What a visitor can mend is shown on the page, and nowhere else."""
    try:
        yield
    except UserError as error:
        raise gr.Error(str(error), print_exception=False) from None


def admit(admission: Admission, request: gr.Request, *said: str | None) -> None:
    """Let a question pass.

    :raises UserError: in the visitor's language, when they ask too often, or *said* has words that the operator doesn't allow.
    """
    client = request.client
    if wait := admission.wait(session(request), client.host if client else ""):
        raise UserError(t(language(request), "door.often", seconds=int(wait) + 1))
    if not admission.allows(*(text or "" for text in said)):
        raise UserError(t(language(request), "door.words"))


def failed(language: Language) -> str:
    """Log the exception that is being handled, and return what a visitor is told in place of a reply: where the log has it."""
    name = secrets.token_hex(4)
    _log.exception("reply %s failed", name)
    return t(language, "reply.failed", id=name)
