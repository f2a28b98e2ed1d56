"""Rewards as a reader sees them: a bar by percentile, the raw value on hover, a difference as a probability."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from playground.texts import Language, t


def signed(reward: float) -> str:
    """A reward with its sign, a true minus among them."""
    return f"{reward:+.2f}".replace("-", "−")


def bar(role: str, label: str, percent: float, spoken: str = "") -> str:
    """A plain bar, *percent* of it filled. ``spoken`` is what is read out and shown on hover in place of the bare number."""
    said = f' aria-valuetext="{escape(spoken)}" title="{escape(spoken)}"' if spoken else ""
    value = f'aria-valuemin="0" aria-valuemax="100" aria-valuenow="{percent:.0f}"{said}'
    return f'<div class="pg-bar" role="{role}" aria-label="{escape(label)}" {value}><i style="width:{percent:.1f}%"></i></div>'


def reward_bar(language: Language, reward: float, percentile: float | None, aside: str = "") -> str:
    """A reward: where it stands among the run's SFT replies. Without such a reference the raw value has to do.

    ``aside`` is HTML that stands at the end of its line.
    """
    label, raw = t(language, "reply.reward"), t(language, "reply.raw", reward=signed(reward))
    if percentile is None:
        return f'<p class="pg-reward"><span>{label}</span> <b>{signed(reward)}</b>{aside}</p>'
    place = t(language, "reply.percentile", percent=f"{percentile:.0f}")
    line = f'<p class="pg-reward" title="{raw}"><span class="pg-hidden">{label}</span> <b>{place}</b>{aside}</p>'
    return line + bar("meter", label, percentile, f"{raw} · {place}")


def difference(language: Language, reward: float, other: float, name: str) -> str:
    """How much better than a neighbour's reply. Reward models are trained as Bradley–Terry models, so σ(difference) is the
    probability that this one is preferred (Ouyang et al. 2022, equation 1); it is shown on hover."""
    gap = reward - other
    side = "even" if abs(gap) < 0.005 else "up" if gap > 0 else "down"
    preferred = 1 / (1 + math.exp(-max(-60.0, min(60.0, gap))))
    hint = escape(t(language, "reply.preferred", percent=f"{100 * preferred:.0f}", name=name))
    return f'<span class="pg-gap pg-{side}" title="{hint}">{escape(t(language, "reply.gap", gap=signed(gap), name=name))}</span>'


def spread(language: Language, percentiles: Sequence[float], picked: int) -> str:
    """Where all samples of a best-of-n lie, as ticks on one line; the picked one stands out."""
    low, middle, high = min(percentiles), sorted(percentiles)[(len(percentiles) - 1) // 2], max(percentiles)
    label = t(language, "reply.spread", low=f"{low:.0f}", middle=f"{middle:.0f}", high=f"{high:.0f}")
    ticks = "".join(
        f'<i{" class=pg-now" if place == picked else ""} style="left:{percent:.1f}%"></i>' for place, percent in enumerate(percentiles)
    )
    return f'<div class="pg-spread" role="img" aria-label="{escape(label)}" title="{escape(label)}">{ticks}</div>'
