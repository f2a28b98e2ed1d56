"""Trainings ordered from the page, as HTML: where they stand, what their data is, what they need, what people said. All is escaped here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from leaderboards.votes.agreement import FEWEST_VOTES
from playground.texts import Language, duration, stage_name, t
from playground.training.estimate import StageEstimate
from playground.training.jobs import Standing
from playground.training.people import Agreement, Ballots, Share

if TYPE_CHECKING:
    from trainers.data.check import Passage, Report

_LONGEST = 1500
_BAD_SHOWN = 3


def status(language: Language, standing: Standing | None) -> str:
    """Where a job stands, not escaped; empty for a run that is no job's, and while its own progress says more."""
    if standing is None or standing.state in ("running", "done"):
        return ""
    return _state(language, standing)


def queue(language: Language, standings: Sequence[Standing]) -> str:
    """Everything unfinished, in the order of its coming; empty while that is one training at most."""
    unfinished = [one for one in standings if one.state in ("queued", "running", "stopping", "paused")]
    if len(unfinished) < 2:
        return ""
    items = "".join(f"<li><b>{escape(one.name)}</b> {escape(_state(language, one))}</li>" for one in unfinished)
    return f'<div class="pg-jobs"><p class="pg-title">{t(language, "job.queue")}</p><ol>{items}</ol></div>'


def _state(language: Language, standing: Standing) -> str:
    return t(language, f"job.state.{standing.state}", place=standing.place, message=standing.failure)


def begun(language: Language, name: str) -> str:
    """A job was put into the queue."""
    return line(t(language, "job.begun", name=name))


def data(language: Language, reports: Mapping[str, Report]) -> str:
    """What each file is, its first bad rows, and its first row as it would be learnt."""
    return "".join(_file(language, name, report) for name, report in reports.items())


def _file(language: Language, name: str, report: Report) -> str:
    loaded, ordered = report.loaded, sorted(report.lengths)
    formats = ", ".join(f"{form} {count:,}" for form, count in loaded.formats.most_common())
    facts = [
        t(language, "job.data.facts", rows=f"{len(ordered):,}", kind=report.kind, formats=formats, bad=f"{len(loaded.bad):,}"),
        t(language, "job.data.serves", kinds=", ".join(f"{kind} ({count:,})" for kind, count in report.usable.items() if count)),
        t(
            language,
            "job.data.lengths",
            unit=t(language, f"job.data.{report.unit}"),
            median=f"{ordered[len(ordered) // 2]:,}",
            longest=f"{ordered[-1]:,}",
            duplicates=f"{report.duplicates:,}",
        ),
    ]
    said = "".join(f"<p>{escape(fact)}</p>" for fact in facts)
    bad = "".join(f"<li>{escape(str(problem).replace(loaded.path, name))}</li>" for problem in loaded.bad[:_BAD_SHOWN])
    if bad:
        said += f"<p>{t(language, 'job.data.bad')}</p><ul>{bad}</ul>"
    if report.preview:
        rows = "".join(f'<pre class="pg-first">{_passages(passages)}</pre>' for passages in report.preview)
        said += f"<p>{t(language, 'job.data.first')}</p>{rows}"
    return f'<article class="pg-data"><header><b>{escape(name)}</b></header>{said}</article>'


def _passages(passages: Iterable[Passage]) -> str:
    """The beginning of a row, with what is learnt underlined."""
    shown, room = "", _LONGEST
    for passage in passages:
        text = escape(passage.text[:room])
        shown += f"<ins>{text}</ins>" if passage.trained else text
        room -= len(passage.text)
        if room <= 0:
            return shown + " …"
    return shown


def plan(language: Language, stages: Sequence[StageEstimate]) -> str:
    """What each stage needs."""
    heads = ("stage", "parameters", "memory", "time", "strategy")
    rows = [
        (
            stage_name(language, one.stage),
            f"{one.parameters:,} ({one.trained:,})",
            _size(one.bytes),
            duration(language, one.seconds),
            one.strategy or t(language, "job.plan.none"),
        )
        for one in stages
    ]
    return _table(t(language, "job.plan"), [t(language, f"job.plan.{head}") for head in heads], rows)


def votes(language: Language, counted: Ballots) -> str:
    """How many votes there are to learn from."""
    counts = t(language, "votes.counts", **{name: f"{count:,}" for name, count in vars(counted).items()})
    return line(counts) + (line(t(language, "votes.accept")) if counted.new else "")


def agreement(language: Language, found: Sequence[Agreement]) -> str:
    """Each reward model that learnt from votes, before and after; empty while there is none."""
    if not found:
        return ""
    heads = [t(language, "job.name"), t(language, "votes.before"), t(language, "votes.after"), t(language, "votes.p")]
    rows = [(one.job, _share(language, one.before), _share(language, one.after), f"{one.p:.3g}") for one in found]
    few = line(t(language, "votes.few", n=FEWEST_VOTES)) if min(one.before.n for one in found) < FEWEST_VOTES else ""
    return _table(t(language, "votes.agreement"), heads, rows) + few


def _share(language: Language, share: Share) -> str:
    low, high = (f"{100 * bound:.0f}" for bound in share.interval)
    percent = f"{100 * share.agreed / share.n:.0f}" if share.n else "–"
    return t(language, "votes.share", percent=percent, low=low, high=high, n=share.n)


def _size(count: float) -> str:
    return f"{count / 2**30:,.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.0f} MiB"


def line(text: str) -> str:
    """A sentence."""
    return f'<p class="pg-state">{escape(text)}</p>'


def _table(title: str, heads: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    top = "".join(f'<th scope="col">{escape(head)}</th>' for head in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<table class="pg-plan"><caption>{escape(title)}</caption><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>'
