"""A writer that says what it was told to, for tests of what happens around a reply."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from modelkit.chat import Message
from playground.chat.replies import Candidate, Reply
from playground.chat.settings import ChatSettings


@dataclass
class FakeWriter:
    """Writes ``words`` one by one, then finishes with ``reward``; with n > 1 there are n candidates. ``heard`` is what it was asked."""

    words: Sequence[str] = ("one", "two", "three")
    reward: float | None = 1.0
    heard: list[tuple[str, list[Message], ChatSettings]] = field(default_factory=list)

    def __call__(
        self, checkpoint: str, messages: Sequence[Message], settings: ChatSettings, cancelled: Callable[[], bool]
    ) -> Iterator[Reply]:
        self.heard.append((checkpoint, list(messages), settings))
        reply = Reply(checkpoint, phase="loading", settings=settings)
        yield reply
        for count in range(1, len(self.words) + 1):
            if cancelled():
                yield replace(reply, phase="done", finish="cancelled")
                return
            reply = replace(reply, phase="writing", text=" ".join(self.words[:count]), tokens=count, seconds=count / 10)
            yield reply
        candidates = tuple(Candidate(f"{reply.text} {place}", "stop", 1.0 - place, 90.0 - place) for place in range(settings.n))
        reply = replace(reply, phase="done", finish="stop", reward=self.reward, percentile=90.0, judge="pocket/rm")
        yield replace(reply, candidates=candidates if settings.n > 1 else ())
