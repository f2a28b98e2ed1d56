"""Votes made by hand, for tests."""

from __future__ import annotations

from typing import Any

from modelkit.chat import Message
from modelkit.fingerprint import sha256_of_messages
from modelkit.records import Side, Vote

REWARD_MODEL = "sha256:rm"


def side(prompt: str, reply: str, checkpoint: str, reward: float | None = None) -> Side:
    """One side: *checkpoint* answered *prompt* with *reply*."""
    messages = [Message(role="user", content=prompt), Message(role="assistant", content=reply)]
    return Side(checkpoint=checkpoint, fingerprint="sha256:0", messages=messages, sha256=sha256_of_messages(messages), reward=reward)


def vote(
    number: int = 0, a: str = "Paris.", b: str = "It is Lyon.", rewards: tuple[float, float] | None = (1.0, -1.0), **more: Any
) -> Vote:
    """A sound vote for A, cast at its number; each is a session and a prompt of its own unless said otherwise."""
    prompt = more.pop("prompt", f"Question {number}?")
    first, second = rewards or (None, None)
    given: dict[str, Any] = {
        "id": f"vote-{number}",
        "time": float(number),
        "session": f"session-{number}",
        "winner": "a",
        "language": "en",
        "sampling": {"temperature": 0.8},
        "reward_model": REWARD_MODEL if rewards else None,
        "seconds": 9.0,
    }
    return Vote(a=side(prompt, a, "pocket/sft", first), b=side(prompt, b, "pocket/rl", second), **(given | more))
