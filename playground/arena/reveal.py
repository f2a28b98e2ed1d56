"""What the arena shows of a battle, as HTML: who wrote what once it is known, and whether the reward model agreed. All of it is escaped."""

from __future__ import annotations

from html import escape

from evalkit.statistics import wilson
from leaderboards.votes.agreement import FEWEST_VOTES
from leaderboards.votes.store import Tally
from modelkit.records import Vote
from playground.arena.battle import Battle
from playground.texts import Language, t

_SIDES = ("A", "B")


def question(battle: Battle) -> str:
    """The prompt that both answer."""
    return f'<p class="pg-question" lang="{battle.prompt.language}">{escape(battle.prompt.text)}</p>'


def heading(battle: Battle | None, side: int, title: str | None = None) -> str:
    """A side's letter; once it is revealed, its checkpoint's title, and whether it won."""
    named = f" <b>{escape(title)}</b>" if title else ""
    won = battle is not None and battle.winner == _SIDES[side].lower()
    mark = ' <span class="pg-won" aria-hidden="true">✓</span>' if won else ""
    return f'<h2 class="pg-side"><span>{_SIDES[side]}</span>{named}{mark}</h2>'


def state(language: Language, battle: Battle) -> str:
    """What there is to do before the names are known."""
    same = battle.phase == "voting" and "a" not in battle.votes
    return f'<p class="pg-state">{t(language, "arena.same" if same else f"arena.{battle.phase}")}</p>'


def outcome(language: Language, vote: Vote, yours: Tally, everybody: Tally | None) -> str:
    """Whether the reward model agreed, how often it did so far, and what the vote is called."""
    parts = [f'<p class="pg-verdict-of">{_verdict(language, vote)}</p>']
    for key, tally in (("arena.tally.you", yours), ("arena.tally.all", everybody)):
        if tally and tally.n:
            parts.append(f'<p class="pg-tally"><span>{t(language, key)}</span> {rate(language, tally)}</p>')
    parts.append(f'<p class="pg-facts">{t(language, "arena.kept", id=f"<code>{escape(vote.id)}</code>")}</p>')
    return f'<div class="pg-outcome">{"".join(parts)}</div>'


def rate(language: Language, tally: Tally) -> str:
    """How often the reward model agreed, with Wilson's 95 % interval; of too few votes no more than their number."""
    counted = t(language, "arena.tally", agreed=tally.agreed, n=tally.n)
    if tally.n < FEWEST_VOTES:
        return f"{counted} · {t(language, 'arena.few', n=FEWEST_VOTES)}"
    low, high = (f"{100 * bound:.0f}" for bound in wilson(tally.agreed, tally.n))
    return f"<b>{100 * tally.agreed / tally.n:.0f} %</b> [{low}, {high}] · {counted}"


def _verdict(language: Language, vote: Vote) -> str:
    if vote.a.reward is None or vote.b.reward is None:
        return t(language, "arena.unscored")
    if vote.a.reward == vote.b.reward:
        return t(language, "arena.equal")
    if vote.agreed is None:
        return t(language, "arena.prefers", side=_SIDES[vote.b.reward > vote.a.reward])
    return t(language, "arena.agreed") if vote.agreed else t(language, "arena.disagreed", side=_SIDES[vote.b.reward > vote.a.reward])
