"""A reading as HTML: coloured tokens with their legend, curves along the reply, sentences, and what could stand at a token. All escaped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from playground.microscope.reading import Alternative, Reading, Token
from playground.reward_bar import signed
from playground.texts import Language, t

SATURATED = 3.0
"""The log-ratio, in nats, from which the colour gets no stronger."""
_NOTABLE = 0.5
"""The log-ratio, in nats, from which a token is underlined, too: colour is never the only sign."""
_STRONGEST = 55
_WIDTH, _HEIGHT = 300, 48


def card(language: Language, reading: Reading, titles: tuple[str, str]) -> str:
    """The whole reading.

    :param titles: what the two checkpoints are called.
    """
    before, after = (escape(title) for title in titles)
    tokens = "".join(_token(language, reading, place) for place in range(len(reading.tokens)))
    label = t(language, "microscope.tokens")
    parts = [
        _totals(language, reading, before, after),
        _legend(language, before, after),
        f'<div class="pg-tokens" role="group" aria-label="{label}">{tokens}</div>',
        f'<p class="pg-title">{t(language, "microscope.curves")}</p><div class="pg-sparks">{_curves(language, reading)}</div>',
    ]
    if reading.misaligned:
        parts.append(f'<p class="pg-state">{t(language, "microscope.misaligned")}</p>')
    parts.append(_removed(language, reading))
    return f'<div class="pg-microscope">{"".join(parts)}</div>'


def alternatives(language: Language, reading: Reading, place: int, titles: tuple[str, str]) -> str:
    """What could stand at a position, with buttons that put it there and let a checkpoint go on."""
    token = reading.tokens[place]
    told = t(
        language,
        "microscope.at",
        place=place + 1,
        count=len(reading.tokens),
        token=f"“{_visible(language, token)}”",
        ratio=signed(token.log_ratio),
        kl=f"{token.kl:.3f}",
    )
    heads = "".join(
        f"<th scope=col>{escape(text)}</th>"
        for text in (t(language, "microscope.token"), *(f"p({title})" for title in titles), t(language, "microscope.on"))
    )
    rows = "".join(_row(language, token, other, place, titles) for other in token.alternatives)
    return (
        f'<div class="pg-alternatives"><p class="pg-title">{escape(told)}</p>'
        f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _totals(language: Language, reading: Reading, before: str, after: str) -> str:
    ratio = math.fsum(token.log_ratio for token in reading.tokens)
    kl = math.fsum(token.kl for token in reading.tokens)
    facts = [
        (t(language, "microscope.total.ratio"), t(language, "microscope.nats", value=signed(ratio))),
        (t(language, "microscope.total.kl", before=before, after=after), t(language, "microscope.nats", value=f"{kl:.2f}")),
    ]
    if reading.reward is not None:
        facts.append((t(language, "microscope.total.reward", judge=escape(reading.judge or "")), signed(reading.reward)))
    return '<dl class="pg-totals">' + "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts) + "</dl>"


def _legend(language: Language, before: str, after: str) -> str:
    swatches = "".join(
        f'<span><i style="{_ground(ratio)}"></i>{t(language, f"microscope.{name}", most=f"{SATURATED:g}")}</span>'
        for name, ratio in (("less", -SATURATED), ("same", 0.0), ("more", SATURATED))
    )
    return f'<p class="pg-legend">{t(language, "microscope.ratio", before=before, after=after)} {swatches}</p>'


def _token(language: Language, reading: Reading, place: int) -> str:
    token = reading.tokens[place]
    ratio = token.log_ratio
    kind = "" if abs(ratio) < _NOTABLE else " pg-likelier" if ratio > 0 else " pg-unlikelier"
    shown = escape(_visible(language, token))
    hint = f"{signed(ratio)}, KL {token.kl:.2f}"
    broken = "<br>" if "\n" in token.text else ""
    return (
        f'<button type="button" class="pg-token{kind}" data-pg-token="{place}" style="{_ground(ratio)}" title="{hint}">'
        f'{shown}<span class="pg-hidden"> {hint}</span></button>{broken}'
    )


def _visible(language: Language, token: Token | Alternative) -> str:
    """A token's text such that blanks can be seen; one that ends a reply by name."""
    if token.ends:
        return f"⟨{t(language, 'microscope.end')}⟩"
    text = token.text
    return text.replace("\n", "↵").replace("\t", "⇥") if text.strip(" ") else "␣" * len(text) or "∅"


def _ground(log_ratio: float) -> str:
    share = _STRONGEST * min(1.0, abs(log_ratio) / SATURATED)
    return f"background:color-mix(in srgb, var(--pg-{'more' if log_ratio > 0 else 'less'}) {share:.0f}%, transparent)"


def _curves(language: Language, reading: Reading) -> str:
    curves: list[tuple[str, list[float | None]]] = [
        ("kl", [token.kl for token in reading.tokens]),
        ("value", [token.value for token in reading.tokens]),
        ("reward", [token.reward for token in reading.tokens]),
    ]
    drawn = ((name, [value for value in values if value is not None]) for name, values in curves)
    return "".join(_spark(language, t(language, f"microscope.curve.{name}"), values) for name, values in drawn if values)


def _spark(language: Language, label: str, values: Sequence[float]) -> str:
    """One curve, a step per token, its span at the side."""
    low, high = min(values), max(values)
    step, span = _WIDTH / max(1, len(values) - 1), (high - low) or 1.0
    points = " ".join(f"{place * step:.1f},{_HEIGHT - (value - low) / span * _HEIGHT:.1f}" for place, value in enumerate(values))
    read = t(language, "microscope.curve.read", label=label, low=_number(low), high=_number(high), last=_number(values[-1]))
    return (
        f'<figure><svg viewBox="-2 -3 {_WIDTH + 4} {_HEIGHT + 6}" preserveAspectRatio="none" role="img" aria-label="{escape(read)}">'
        f'<polyline points="{points}" vector-effect="non-scaling-stroke"/></svg><figcaption>{escape(read)}</figcaption></figure>'
    )


def _number(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def _removed(language: Language, reading: Reading) -> str:
    if reading.reward is None:
        return f'<p class="pg-state">{t(language, "microscope.unscored")}</p>'
    heads = "".join(f"<th scope=col>{t(language, f'microscope.{name}')}</th>" for name in ("sentence", "without", "brings"))
    rows = "".join(
        f"<tr><td>{escape(part.text)}</td><td>{signed(part.reward)}</td><td>{signed(reading.reward - part.reward)}</td></tr>"
        for part in reading.removed
    )
    title = t(language, "microscope.removed")
    return f'<p class="pg-title">{title}</p><table class="pg-removed"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>'


def _row(language: Language, token: Token, other: Alternative, place: int, titles: tuple[str, str]) -> str:
    text = _visible(language, other)
    shown = f"<b>{escape(text)}</b>" + (f" <small>{t(language, 'microscope.written')}</small>" if other.token == token.id else "")
    buttons = "".join(
        f'<button type="button" data-pg-alternative="{place}.{other.token}.{side}" '
        f'aria-label="{escape(t(language, "microscope.on.by", token=text, name=title))}">{escape(title)}</button>'
        for side, title in enumerate(titles)
    )
    return f"<tr><td>{shown}</td><td>{_percent(other.before)}</td><td>{_percent(other.after)}</td><td>{buttons}</td></tr>"


def _percent(logprob: float) -> str:
    share = 100 * math.exp(logprob)
    return f"{share:.1f} %" if share >= 0.1 else "&lt; 0.1 %"
