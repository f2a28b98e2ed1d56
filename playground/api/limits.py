"""How much one request, one client and all clients together may ask for, in numbers; :mod:`playground.api.gate` holds them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Of one request: messages, characters, bytes, prompts × samples, tokens of all prompts together, and tokens a sample may have.

    Of all: requests at work at a time, and requests a minute by one client (``None``: as many as it likes).
    """

    messages: int = 512
    characters: int = 1_000_000
    body_bytes: int = 16 << 20
    samples: int = 128
    prompt_tokens: int = 131_072
    tokens: int = 4096
    concurrent: int = 128
    per_minute: int | None = None
