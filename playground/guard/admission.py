"""What a visitor may ask of the models: not too often, and nothing that is on the operator's word lists."""

from __future__ import annotations

from playground.guard.addresses import Addresses
from playground.guard.content_filter import WordFilter
from playground.guard.rates import Rates

PER_SESSION, PER_ADDRESS = 30, 120
"""Questions a minute, by default. A tab can hardly ask more often, since it waits for its replies; an address has many tabs."""


class Admission:
    """Counts questions by session, which a program makes up as it likes, and by address, which it can't.

    :param per_address: questions a minute from one address, and at most :data:`PER_SESSION` of them by one session.
    :param words: what no question may hold, and what is masked in replies.
    """

    def __init__(self, per_address: int = PER_ADDRESS, words: WordFilter | None = None) -> None:
        self.words = words
        self._addresses = Addresses()
        self._by_session, self._by_address = Rates(min(PER_SESSION, per_address)), Rates(per_address)

    def wait(self, session: str, host: str) -> float:
        """Count a question: 0.0 when it may be asked, else the seconds until one may."""
        return self._by_session.take(session) or self._by_address.take(self._addresses.name(host))

    def allows(self, *texts: str) -> bool:
        """Whether nothing in these texts is on the lists."""
        return self.words is None or all(map(self.words.allows, texts))
