"""One reply of one column, from the moment it is asked for until it has its reward, as a stream of small snapshots."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from modelkit.chat import Message, encode_prompt, stop_ids
from modelkit.errors import UserError
from playground.models import Entry, Loaded, Models
from playground.settings import MAX_CANDIDATES, MAX_TOKENS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from modelkit.generation.batch import Finish

FRAME_SECONDS = 1 / 15
"""No more than 15 snapshots a second: a browser shows no more."""

Phase = Literal["waiting", "loading", "writing", "scoring", "done"]


@dataclass(frozen=True)
class ChatSettings:
    """How a reply is sampled. ``candidates`` is the n of best-of-n, which only the reward model's column uses."""

    temperature: float = 0.7
    top_p: float = 0.95
    max_tokens: int = 96
    seed: int = 0
    candidates: int = 8

    def __post_init__(self) -> None:
        if not 1 <= self.max_tokens <= MAX_TOKENS:
            raise UserError(f"the reply may have from 1 to {MAX_TOKENS} tokens, not {self.max_tokens}.")
        if not 1 <= self.candidates <= MAX_CANDIDATES:
            raise UserError(f"the reward model may choose from 1 to {MAX_CANDIDATES} replies, not {self.candidates}.")
        if not 0 <= self.temperature <= 2 or not 0 < self.top_p <= 1:
            raise UserError("the temperature lies between 0 and 2, top-p above 0 and at most 1.")


@dataclass(frozen=True)
class Candidate:
    """One of the replies a reward model chose from."""

    text: str
    finish: Finish | None
    reward: float
    percentile: float | None


@dataclass(frozen=True)
class Reply:
    """What is known of a reply so far.

    ``reward`` is raw; ``percentile`` (0…100) its place among the run's SFT replies. ``dropped`` counts the oldest turns left out
    because the model's context is too short. ``candidates`` are ranked, the best (which is ``text``) first; while they are being
    written, ``drawn`` of ``wanted`` are finished. ``error`` is a sentence for the visitor.
    """

    checkpoint: str
    phase: Phase = "waiting"
    text: str = ""
    finish: Finish | None = None
    tokens: int = 0
    seconds: float = 0.0
    reward: float | None = None
    percentile: float | None = None
    candidates: tuple[Candidate, ...] = ()
    drawn: int = 0
    wanted: int = 1
    dropped: int = 0
    error: str | None = None

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
    reply = Reply(checkpoint)
    try:
        for reply in _stream(models, checkpoint, messages, settings, cancelled):
            yield reply
    except UserError as error:
        yield replace(reply, phase="done", error=str(error))


def _stream(
    models: Models, checkpoint: str, messages: Sequence[Message], settings: ChatSettings, cancelled: Callable[[], bool]
) -> Iterator[Reply]:
    reply = Reply(checkpoint, phase="loading")
    yield reply
    entry = models.entry(checkpoint)
    judging = entry.kind == "reward"
    loaded = models.language(_writer(models, entry) if judging else entry)
    ids, kept, dropped = fit(loaded.tokenizer, messages, loaded.engine.context, settings.max_tokens)
    reply = replace(reply, phase="waiting", dropped=dropped, wanted=settings.candidates if judging else 1)
    drafts, reply = yield from _write(loaded, ids, settings, reply, cancelled)
    if reply.error:
        yield replace(reply, phase="done", finish="error")
        return
    if not judging:
        reply = replace(reply, text=drafts[0].text, finish=drafts[0].finish)
    if cancelled():
        yield replace(reply, phase="done", finish="cancelled")
        return
    yield replace(reply, phase="scoring")
    ranked = _score(models, entry, kept, drafts)
    if judging:
        reply = replace(reply, text=ranked[0].text, finish=ranked[0].finish, candidates=tuple(ranked))
    if ranked:
        reply = replace(reply, reward=ranked[0].reward, percentile=ranked[0].percentile)
    yield replace(reply, phase="done")


@dataclass
class _Draft:
    """A reply being written."""

    written: str = ""
    finish: Finish | None = None

    @property
    def text(self) -> str:
        return self.written.strip()


def _write(
    loaded: Loaded, ids: list[int], settings: ChatSettings, reply: Reply, cancelled: Callable[[], bool]
) -> Generator[Reply, None, tuple[list[_Draft], Reply]]:
    """Write ``reply.wanted`` replies to one prompt, whose prefill they share. A single one is shown while it grows."""
    from modelkit.generation.requests import Request
    from modelkit.generation.sampling import Sampling

    n = reply.wanted
    drafts = [_Draft() for _ in range(n)]
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
            if now - shown >= FRAME_SECONDS:
                shown = now
                yield reply if n > 1 else replace(reply, text=drafts[0].text)
    finally:
        asked.cancel()
    return drafts, reply


def _score(models: Models, entry: Entry, prompt: list[Message], drafts: list[_Draft]) -> list[Candidate]:
    """The drafts with their rewards, the best first; none while the run has no reward model."""
    judge = models.reward(entry)
    if judge is None:
        return []
    conversations = [[*prompt, Message(role="assistant", content=draft.text)] for draft in drafts]
    rewards = judge.worker.run(lambda: judge.model.score(conversations)).result()
    found = [
        Candidate(draft.text, draft.finish, reward, judge.reference.percentile(reward) if judge.reference else None)
        for draft, reward in zip(drafts, rewards, strict=True)
    ]
    return sorted(found, key=lambda candidate: -candidate.reward)


def _writer(models: Models, judge: Entry) -> Entry:
    """Whose replies a reward model chooses from."""
    writer = models.sibling(judge, "sft")
    if writer is None:
        raise UserError("a reward model chooses among the SFT checkpoint's replies, and this run has none yet: choose another checkpoint.")
    return writer


def fit(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], context: int | None, max_tokens: int
) -> tuple[list[int], list[Message], int]:
    """Token ids of as much of a conversation as leaves room for an answer, those messages, and the number of turns dropped.

    The oldest turns go first. Room is *max_tokens*, or a quarter of the context where that is less.

    :raises UserError: when the last message alone is too long.
    """
    if tokenizer.chat_template is None:
        messages = messages[-1:]
    room = context - min(max_tokens, context // 4) if context else None
    for start in range(0, len(messages), 2):
        kept = list(messages[start:])
        ids = encode_prompt(tokenizer, kept) if tokenizer.chat_template else list(tokenizer(kept[-1]["content"])["input_ids"])
        if room is None or len(ids) <= room:
            return ids, kept, start // 2
    raise UserError(f"the message is {len(ids)} tokens long, but this model can read {room} beside its answer: shorten it.")
