"""How fast the page computes, for the visitors of a Space that has no GPU."""

from __future__ import annotations

from html import escape

from modelkit.device import available_threads
from playground.models import Loaded, Models
from playground.texts import Language, t

_ENOUGH = 100


def note(language: Language, longest: int, models: Models) -> str:
    """The cores, the rate as far as it is known, and the longest reply, as HTML."""
    rate, told = tokens_per_second(models), {"cores": available_threads(), "longest": longest}
    text = t(language, "host.cpu", rate=f"{rate:,.0f}", **told) if rate else t(language, "host.cpu.new", **told)
    return f'<p class="pg-facts">{escape(text)}</p>'


def tokens_per_second(models: Models) -> float | None:
    """Tokens that the language models in memory have drawn, by the seconds that they worked, to two digits; ``None`` while they are few."""
    tallies = [loaded.engine.tally for loaded in models.loaded().values() if isinstance(loaded, Loaded)]
    drawn, seconds = sum(tally.drawn for tally in tallies), sum(sum(tally.seconds.values()) for tally in tallies)
    return float(f"{drawn / seconds:.1e}") if drawn >= _ENOUGH and seconds else None
