"""The page's whole setting in its address: ``?models=run/sft,run/rl&prompt=…&temperature=0``. Read without trusting it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlencode

from modelkit.errors import UserError
from playground.chat.settings import ChatSettings, Setting
from playground.settings import COLUMNS, MAX_PROMPT_CHARACTERS

MAX_LINK = 32_768
"""A longer address is not read."""
NUMBERS: dict[str, type[int] | type[float]] = {
    "temperature": float,
    "top_p": float,
    "max_tokens": int,
    "seed": int,
    "n": int,
    "best_of": int,
}
"""The settings that an address can name, as one number for all columns or one for each, separated by commas."""


def read_link(query: str) -> Setting | None:
    """The setting that an address's query names; ``None`` where it names none. What is out of bounds is left at its default."""
    if len(query) > MAX_LINK:
        return None
    named = {name: values[-1] for name, values in parse_qs(query.removeprefix("?")).items()}
    if not named.keys() & {"models", "prompt", "system", *NUMBERS}:
        return None
    models = tuple(name.strip() for name in named.get("models", "").split(",") if name.strip())[:COLUMNS]
    shared = _within(ChatSettings(), {"system": named.get("system", "")})
    columns = [shared] * COLUMNS
    for name, kind in NUMBERS.items():
        parts = named[name].split(",") if name in named else []
        for column in range(COLUMNS if parts else 0):
            if (value := _number(parts[min(column, len(parts) - 1)], kind)) is not None:
                columns[column] = _within(columns[column], {name: value})
    own = tuple(columns) if any("," in named.get(name, "") for name in NUMBERS) else None
    return Setting(models, named.get("prompt", "").strip()[:MAX_PROMPT_CHARACTERS], columns[0], own)


def write_link(setting: Setting) -> str:
    """The query (``?…``) that :func:`read_link` reads back; settings at their default are left out."""
    query: dict[str, str] = {"models": ",".join(setting.models)} if setting.models else {}
    if setting.prompt:
        query["prompt"] = setting.prompt
    if setting.shared.system:
        query["system"] = setting.shared.system
    usual = ChatSettings()
    for name in NUMBERS:
        values = [getattr(setting.of(column), name) for column in range(len(setting.models) or 1)]
        if any(value != getattr(usual, name) for value in values):
            said = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]
            query[name] = ",".join(said if len(set(said)) > 1 else said[:1])
    return "?" + urlencode(query, safe="/,")


def _number(text: str, kind: type[int] | type[float]) -> float | None:
    try:
        return kind(text)
    except ValueError:
        return None


def _within(settings: ChatSettings, change: dict[str, Any]) -> ChatSettings:
    try:
        return replace(settings, **change)
    except UserError:
        return settings
