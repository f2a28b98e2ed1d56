"""What is asked of the engine, and what comes back: a stream of pieces that ends in a reason, or in an error as a value."""

from __future__ import annotations

import queue
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from modelkit.errors import UserError
from modelkit.generation.sampling import Sampling
from modelkit.generation.sequences import Finish

MAX_TOP = 20
"""Most of the likeliest tokens that can be reported at each step."""
_MAX_STOPS = 16


@dataclass(frozen=True)
class Request:
    """One prompt, as token ids, and how *n* samples of its continuation are drawn.

    ``stop`` are token ids and ``stop_strings`` texts that end a sample; neither is part of its text. ``top`` asks for that many of
    the likeliest tokens at each step. After ``seconds`` the samples end where they are. ``goes_on`` says that the text continues the
    prompt's, so that a blank before its first word shows, rather than beginning anew. Errors and logs name the request by ``id``.
    """

    prompt: Sequence[int]
    sampling: Sampling = field(default_factory=Sampling)
    stop: Sequence[int] = ()
    stop_strings: Sequence[str] = ()
    n: int = 1
    top: int = 0
    seconds: float | None = None
    goes_on: bool = False
    id: str = field(default_factory=lambda: secrets.token_hex(6))

    def __post_init__(self) -> None:
        if not 0 <= self.top <= MAX_TOP:
            raise UserError(f"{self.top} of the likeliest tokens were asked for: from 0 to {MAX_TOP} are possible.")
        if len(self.stop_strings) > _MAX_STOPS or not all(self.stop_strings):
            raise UserError(f"there may be up to {_MAX_STOPS} stop strings, none of them empty.")
        if self.seconds is not None and not self.seconds > 0:
            raise UserError(f"the time limit is {self.seconds} seconds: a number above 0 is needed.")


@dataclass(frozen=True)
class Piece:
    """What one token brought to one sample: text that is now certain (often none), the token, its natural-log probability.

    The last piece of a sample has its ``finish``. A sample that ends without drawing another token (cancelled, too late, failed)
    has a last piece whose ``token`` is ``None``; ``error`` is a sentence, with the request's id, when ``finish`` is ``error``.
    """

    sample: int
    text: str = ""
    token: int | None = None
    logprob: float = 0.0
    top: tuple[tuple[int, float], ...] = ()
    finish: Finish | None = None
    error: str | None = None


@dataclass
class Sample:
    """A sample so far, or finished. ``ids`` has its stop token."""

    text: str = ""
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    tops: list[tuple[tuple[int, float], ...]] = field(default_factory=list)
    finish: Finish | None = None
    error: str | None = None

    def add(self, piece: Piece) -> None:
        """Take in what the next token brought."""
        self.text += piece.text
        if piece.token is not None:
            self.ids.append(piece.token)
            self.logprobs.append(piece.logprob)
            self.tops.append(piece.top)
        self.finish, self.error = piece.finish, piece.error


class Reply:
    """A request under way. Iterate over its pieces, or take everything at the end by :meth:`samples`.

    ``reused`` tokens of the prompt were not read, since somebody else had; that is known when the first piece comes.

    :param turn: where no thread works, the function that does a step of the work; it is called while a reader waits.
    :param deliver: called with each piece on the engine's thread, in place of the queue that iteration reads.
    """

    def __init__(
        self,
        request: Request,
        cancelled: Callable[[], bool] = lambda: False,
        turn: Callable[[], object] | None = None,
        deliver: Callable[[Piece], None] | None = None,
    ) -> None:
        self.id, self.request, self.reused = request.id, request, 0
        self.deadline = time.monotonic() + request.seconds if request.seconds else None
        self._cancel, self._asked, self._turn = False, cancelled, turn
        self._pieces: queue.SimpleQueue[Piece] = queue.SimpleQueue()
        self.deliver = deliver or self._pieces.put
        self._open = request.n

    def cancel(self) -> None:
        """End the work before its next step."""
        self._cancel = True

    @property
    def cancelled(self) -> bool:
        """Whether somebody wants it to end."""
        return self._cancel or self._asked()

    def next(self, timeout: float | None = None) -> Piece | None:
        """The next piece; ``None`` when there is none within *timeout* seconds (without a thread: within a step) or after the last."""
        if self._open == 0:
            return None
        try:
            if self._turn is not None and self._pieces.empty():
                self._turn()
            piece = self._pieces.get(block=self._turn is None, timeout=timeout)
        except queue.Empty:
            return None
        self._open -= piece.finish is not None
        return piece

    @property
    def done(self) -> bool:
        """Whether the last piece has been read."""
        return self._open == 0

    def __iter__(self) -> Iterator[Piece]:
        while not self.done:
            if (piece := self.next()) is not None:
                yield piece

    def samples(self) -> list[Sample]:
        """Wait for the end and return all samples."""
        found = [Sample() for _ in range(self.request.n)]
        for piece in self:
            found[piece.sample].add(piece)
        return found
