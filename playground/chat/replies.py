"""One reply of one column, from the moment it is asked for until it has its reward, as a stream of small snapshots."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from modelkit.chat import Message, stop_ids
from modelkit.errors import UserError
from playground.chat.settings import ChatSettings
from playground.entries import Entry
from playground.fitting import fit
from playground.models import Loaded, Models

if TYPE_CHECKING:
    from modelkit.generation.batch import Finish

FRAME_SECONDS = 1 / 15
"""No more than 15 snapshots a second: a browser shows no more."""
_FRAMES_PER_SECOND = 20
"""Of all replies that one model writes at a time, together: each snapshot costs the page some milliseconds, which the models want too."""

Phase = Literal["waiting", "loading", "writing", "scoring", "done"]


@dataclass(frozen=True)
class Candidate:
    """One of the samples that the reply was chosen from."""

    text: str
    finish: Finish | None
    reward: float
    percentile: float | None


@dataclass(frozen=True)
class Reply:
    """What is known of a reply so far.

    ``reward`` is raw, and by the reward model called ``judge``; ``percentile`` (0…100) is its place among the run's SFT replies.
    ``dropped`` counts the oldest turns left out because the model's context is too short. ``candidates`` are ranked, the best first;
    ``text`` is the one at ``picked``. While they are being written, ``drawn`` of ``wanted`` are finished. ``settings`` are those that
    it was sampled with. ``error`` is a sentence for the visitor.
    """

    checkpoint: str
    phase: Phase = "waiting"
    text: str = ""
    finish: Finish | None = None
    tokens: int = 0
    seconds: float = 0.0
    reward: float | None = None
    percentile: float | None = None
    judge: str | None = None
    candidates: tuple[Candidate, ...] = ()
    picked: int = 0
    drawn: int = 0
    wanted: int = 1
    dropped: int = 0
    settings: ChatSettings | None = None
    error: str | None = None

    @property
    def answered(self) -> bool:
        """Whether there is something in it that later rounds should see."""
        return self.error is None and bool(self.text)

    def picking(self, candidate: int) -> Reply:
        """The same with another of its candidates as the reply."""
        chosen = self.candidates[candidate]
        return replace(self, text=chosen.text, finish=chosen.finish, reward=chosen.reward, percentile=chosen.percentile, picked=candidate)

    @property
    def tokens_per_s(self) -> float:
        """Speed of writing, all candidates counted."""
        return self.tokens / self.seconds if self.seconds else 0.0


def stream_reply(
    models: Models, checkpoint: str, messages: Sequence[Message], settings: ChatSettings, cancelled: Callable[[], bool]
) -> Iterator[Reply]:
    """Answer *messages* (the last one the user's), yielding at most 15 snapshots a second and at last one that is ``done``.

    Once *cancelled* turns true, or the iterator is closed, the work ends within one decoding step. What a visitor can mend
    arrives as ``error`` of the last snapshot, not as an exception.
    """
    reply = asked = Reply(checkpoint, phase="loading", settings=settings)
    try:
        for reply in _stream(models, asked, messages, cancelled):
            yield reply
    except UserError as error:
        yield replace(reply, phase="done", error=str(error))


def _stream(models: Models, reply: Reply, messages: Sequence[Message], cancelled: Callable[[], bool]) -> Iterator[Reply]:
    settings = reply.settings or ChatSettings()
    yield reply
    entry = models.entry(reply.checkpoint)
    judging = entry.kind == "reward"
    loaded = models.language(_writer(models, entry) if judging else entry)
    reply = replace(reply, wanted=settings.best_of if judging else settings.n)
    if settings.system:
        messages = [Message(role="system", content=settings.system), *messages]
    ids, kept, dropped = fit(loaded.tokenizer, messages, loaded.engine.context, settings.max_tokens)
    drafts, reply = yield from _write(loaded, ids, settings, replace(reply, phase="waiting", dropped=dropped), cancelled)
    if reply.error:
        yield replace(reply, phase="done", finish="error")
        return
    yield from finished(models, entry, kept, drafts, reply, cancelled)


@dataclass
class Draft:
    """A sample being written."""

    written: str = ""
    finish: Finish | None = None

    @property
    def text(self) -> str:
        """What it says, without blanks around it."""
        return self.written.strip()


def finished(
    models: Models, entry: Entry | None, prompt: list[Message], drafts: list[Draft], reply: Reply, cancelled: Callable[[], bool]
) -> Iterator[Reply]:
    """The last snapshots of a reply whose samples are written: scoring it, then done, the best sample first.

    :param entry: whose run's reward model scores; ``None`` for one that comes from outside.
    """
    if len(drafts) == 1 or cancelled():
        longest = max(drafts, key=lambda draft: len(draft.text))
        reply = replace(reply, text=longest.text, finish=longest.finish)
    if cancelled():
        yield replace(reply, phase="done", finish="cancelled")
        return
    yield replace(reply, phase="scoring")
    ranked, judge = score(models, entry, prompt, drafts)
    if ranked:
        reply = replace(reply, judge=judge, candidates=tuple(ranked) if len(ranked) > 1 else (), picked=0)
        best = ranked[0]
        reply = replace(reply, text=best.text, finish=best.finish, reward=best.reward, percentile=best.percentile)
    elif len(drafts) > 1:
        reply = replace(reply, text=drafts[0].text, finish=drafts[0].finish)
    yield replace(reply, phase="done")


def _write(
    loaded: Loaded, ids: list[int], settings: ChatSettings, reply: Reply, cancelled: Callable[[], bool]
) -> Generator[Reply, None, tuple[list[Draft], Reply]]:
    """Write ``reply.wanted`` replies to one prompt, whose prefill they share. A single one is shown while it grows."""
    from modelkit.generation.requests import Request
    from modelkit.generation.sampling import Sampling

    n = reply.wanted
    drafts = [Draft() for _ in range(n)]
    sampling = Sampling(max_tokens=settings.max_tokens, temperature=settings.temperature, top_p=settings.top_p, seed=settings.seed)
    asked = loaded.engine.submit(Request(ids, sampling, stop_ids(loaded.tokenizer, loaded.model), n=n), cancelled)
    yield reply
    started = shown = time.perf_counter()
    try:
        while not asked.done:
            piece, now = asked.next(timeout=3 * FRAME_SECONDS), time.perf_counter()
            if piece is not None:
                drafts[piece.sample].written += piece.text
                drafts[piece.sample].finish = piece.finish
                reply = replace(
                    reply,
                    phase="writing",
                    tokens=reply.tokens + (piece.token is not None),
                    seconds=now - started,
                    drawn=reply.drawn + (n > 1 and piece.finish is not None),
                    error=piece.error or reply.error,
                )
            first = n == 1 and bool(drafts[0].text) and not reply.text
            if first or now - shown >= max(FRAME_SECONDS, sum(loaded.engine.load) / _FRAMES_PER_SECOND):
                shown = now
                reply = reply if n > 1 else replace(reply, text=drafts[0].text)
                yield reply
    finally:
        asked.cancel()
    return drafts, reply


def score(models: Models, entry: Entry | None, prompt: list[Message], drafts: list[Draft]) -> tuple[list[Candidate], str | None]:
    """The drafts with their rewards, the best first, and the reward model's id; nothing while there is none.

    The run's own reward model scores; what comes from outside is scored by the first one there is.
    """
    judge = models.sibling(entry, "reward") if entry else next((other for other in models.catalogue() if other.kind == "reward"), None)
    loaded = models.reward(judge) if judge else None
    if judge is None or loaded is None:
        return [], None
    conversations = [[*prompt, Message(role="assistant", content=draft.text)] for draft in drafts]
    rewards = loaded.worker.run(lambda: loaded.model.score(conversations)).result()
    found = [
        Candidate(draft.text, draft.finish, reward, loaded.reference.percentile(reward) if loaded.reference else None)
        for draft, reward in zip(drafts, rewards, strict=True)
    ]
    return sorted(found, key=lambda candidate: -candidate.reward), judge.id


def _writer(models: Models, judge: Entry) -> Entry:
    """Whose replies a reward model chooses from."""
    writer = models.sibling(judge, "sft")
    if writer is None:
        raise UserError("a reward model chooses among the SFT checkpoint's replies, and this run has none yet: choose another checkpoint.")
    return writer
