"""Whoever can fill a column: the checkpoints of the opened runs, and the models that the operator has served elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from modelkit.chat import Message
from modelkit.errors import UserError
from modelkit.run import StageKind
from playground.chat.replies import Draft, Reply, finished, stream_reply
from playground.chat.settings import ChatSettings
from playground.endpoints import PREFIX, Served
from playground.guard.content_filter import WordFilter
from playground.models import Models
from playground.settings import MAX_TOKENS
from playground.texts import Language

WriterKind = StageKind | Literal["endpoint"]


ReplyStream = Callable[[Models, str, Sequence[Message], ChatSettings, Callable[[], bool]], Iterator[Reply]]
"""What answers for a checkpoint, as :func:`playground.chat.replies.stream_reply` does."""


@dataclass(frozen=True)
class Choice:
    """Something a column can show. ``id`` is all that a visitor ever sends of it."""

    id: str
    title: str
    kind: WriterKind


@dataclass(frozen=True)
class Writers:
    """The checkpoints first, in their runs' order, then the served models.

    A reply has up to ``longest`` tokens, whatever is asked for; what is on ``words`` is masked in it.
    """

    models: Models
    served: tuple[Served, ...] = ()
    longest: int = MAX_TOKENS
    words: WordFilter | None = None
    stream: ReplyStream = stream_reply

    def choices(self, language: Language) -> list[Choice]:
        """What a visitor may choose from, now."""
        own = [Choice(entry.id, entry.title(language), entry.kind) for entry in self.models.catalogue()]
        return own + [Choice(other.id, other.title, "endpoint") for other in self.served]

    def choice(self, name: str, language: Language) -> Choice | None:
        """The choice called *name*, while there is one."""
        return next((choice for choice in self.choices(language) if choice.id == name), None)

    def defaults(self) -> list[str]:
        """What the columns show first."""
        return self.models.defaults() or [other.id for other in self.served]

    def write(self, checkpoint: str, messages: Sequence[Message], settings: ChatSettings, cancelled: Callable[[], bool]) -> Iterator[Reply]:
        """The reply of whoever is called *checkpoint*, as :func:`playground.chat.replies.stream_reply` gives it."""
        settings = replace(settings, max_tokens=min(settings.max_tokens, self.longest))
        if checkpoint.startswith(PREFIX):
            replies = self._ask(checkpoint, messages, settings, cancelled)
        else:
            replies = self.stream(self.models, checkpoint, messages, settings, cancelled)
        return masked(self.words, replies) if self.words else replies

    def _ask(self, name: str, messages: Sequence[Message], settings: ChatSettings, cancelled: Callable[[], bool]) -> Iterator[Reply]:
        reply, drafts = Reply(name, settings=settings), list[Draft]()
        try:
            served = next((other for other in self.served if other.id == name), None)
            if served is None:
                raise UserError("this model is not in the list: choose one of those offered.")
            for reply, drafts in served.stream(messages, settings, cancelled):  # noqa: B007  what was last written is scored
                yield reply
            lead = [Message(role="system", content=settings.system)] if settings.system else []
            yield from finished(self.models, None, [*lead, *messages], drafts, reply, cancelled)
        except UserError as error:
            yield replace(reply, phase="done", error=str(error))


def masked(words: WordFilter, replies: Iterator[Reply]) -> Iterator[Reply]:
    """Replies without words of the list. Of a text that is being written, what may yet become one is held back."""
    for reply in replies:
        text = words.mask(reply.text) if reply.phase == "done" else words.mask_unfinished(reply.text)
        others = tuple(replace(other, text=words.mask(other.text)) for other in reply.candidates)
        yield replace(reply, text=text, candidates=others)
