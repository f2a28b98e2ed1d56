"""What stands below a finished reply: its reward, the samples it was picked from, its length and speed. All of it is escaped."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from html import escape

from playground.chat.replies import Candidate, Reply
from playground.reward_bar import difference, reward_bar, signed, spread
from playground.texts import Language, t


@dataclass(frozen=True)
class Neighbour:
    """The reply to the left, which a reply is compared with, and what its checkpoint is called."""

    reply: Reply
    title: str


def reply_card(
    language: Language, reply: Reply, neighbour: Neighbour | None = None, writer: str | None = None, pick: str | None = None
) -> str:
    """The card as HTML.

    :param writer: who wrote the reply, where that isn't who the column shows now.
    :param pick: where in the conversation the reply is (``round.column``), when another of its candidates may be picked.
    """
    parts = []
    if writer:
        parts.append(f'<p class="pg-facts">{escape(t(language, "reply.by", name=writer))}</p>')
    if reply.dropped:
        parts.append(f'<p class="pg-facts">{t(language, "reply.dropped", count=reply.dropped)}</p>')
    if reply.reward is not None:
        gap = ""
        if neighbour and neighbour.reply.reward is not None and neighbour.reply.judge == reply.judge:
            gap = difference(language, reply.reward, neighbour.reply.reward, neighbour.title)
        parts.append(reward_bar(language, reply.reward, reply.percentile, gap))
    parts.append(f'<p class="pg-facts">{" · ".join(_facts(language, reply))}</p>')
    if reply.candidates:
        parts.append(_candidates(language, reply, pick))
    return f'<div class="pg-verdict">{"".join(parts)}</div>'


def _facts(language: Language, reply: Reply) -> list[str]:
    facts = [t(language, "reply.tokens", count=reply.tokens), t(language, "reply.speed", rate=f"{reply.tokens_per_s:,.0f}")]
    if reply.finish:
        facts.append(t(language, f"reply.finish.{reply.finish}"))
    if reply.reward is None and reply.finish != "cancelled":
        facts.append(t(language, "reply.unscored"))
    return facts


def _candidates(language: Language, reply: Reply, pick: str | None) -> str:
    percentiles = [candidate.percentile for candidate in reply.candidates if candidate.percentile is not None]
    line = spread(language, percentiles, reply.picked) if len(percentiles) == len(reply.candidates) else ""
    alike = Counter(candidate.text for candidate in reply.candidates)
    first = {candidate.text: place for place, candidate in reversed(list(enumerate(reply.candidates)))}
    rows = "".join(
        _candidate(language, candidate, place, first[reply.text], pick, alike[candidate.text])
        for place, candidate in enumerate(reply.candidates)
        if first[candidate.text] == place
    )
    title = t(language, "reply.picked" if reply.picked == 0 else "reply.picked.other", n=len(reply.candidates))
    return f'<details class="pg-samples-of" open><summary>{title}</summary>{line}<ol class="pg-candidates">{rows}</ol></details>'


def _candidate(language: Language, candidate: Candidate, place: int, picked: int, pick: str | None, times: int) -> str:
    """One text among the samples, and how often it was drawn."""
    fill = "" if candidate.percentile is None else f'<i style="width:{candidate.percentile:.1f}%"></i>'
    text = escape(candidate.text) or t(language, "reply.empty")
    drawn = f' <span class="pg-times">× {times}</span>' if times > 1 else ""
    raw = t(language, "reply.raw", reward=signed(candidate.reward))
    shown = f'<span class="pg-rank">{place + 1}</span><span class="pg-bar" title="{raw}">{fill}</span><q>{text}{drawn}</q>'
    if pick is None:
        return f"<li>{shown}</li>"
    pressed = "true" if place == picked else "false"
    hint = escape(f"{t(language, 'reply.pick')}. {raw}")
    return f'<li><button type="button" data-pg-pick="{pick}.{place}" aria-pressed="{pressed}" title="{hint}">{shown}</button></li>'
