"""Pieces of the page as HTML and Markdown. Whatever a model, a visitor or a file says is escaped here, and nowhere else."""

from __future__ import annotations

import re
from html import escape

from playground.curves import Progress, RunWatch, Sample, StageLog
from playground.replies import Candidate, Reply
from playground.texts import Language, duration, stage_name, t

_CODE = re.compile(r"(```.*?(?:```|\Z)|`[^`\n]+`)", re.DOTALL)
_SAMPLE_EVENTS = 8


def safe_markdown(text: str) -> str:
    """A model's Markdown without HTML and without images, which would load from wherever they say. Code stays as it is."""
    pieces = _CODE.split(text)
    return "".join(piece if i % 2 else piece.replace("<", "&lt;").replace("![", "!\\[") for i, piece in enumerate(pieces))


def reply_text(language: Language, reply: Reply, candidates: int) -> str:
    """What stands in the reply's bubble: its text, or what is being waited for, or the error."""
    if reply.error:
        return f"*{safe_markdown(reply.error)}*"
    if reply.text:
        return safe_markdown(reply.text)
    if reply.phase == "done":
        return f"*{t(language, 'reply.empty')}*"
    if reply.phase == "writing" and reply.drawn:
        return f"*{t(language, 'reply.drawing', drawn=reply.drawn, n=candidates)}*"
    return f"*{t(language, f'reply.{reply.phase}')}*"


def verdict(language: Language, reply: Reply) -> str:
    """What stands below a finished reply: its reward as a bar, what the reward model chose from, length and speed."""
    parts = []
    if reply.dropped:
        parts.append(f'<p class="pg-facts">{t(language, "reply.dropped", count=reply.dropped)}</p>')
    if reply.reward is not None:
        parts.append(_gauge(language, reply.reward, reply.percentile))
    facts = [t(language, "reply.tokens", count=reply.tokens), t(language, "reply.speed", rate=f"{reply.tokens_per_s:,.0f}")]
    if reply.finish:
        facts.append(t(language, f"reply.finish.{reply.finish}"))
    if reply.reward is None and reply.finish != "cancelled":
        facts.append(t(language, "reply.unscored"))
    parts.append(f'<p class="pg-facts">{" · ".join(facts)}</p>')
    if reply.candidates:
        rows = "".join(_candidate(language, candidate) for candidate in reply.candidates)
        parts.append(
            f'<p class="pg-facts pg-picked">{t(language, "reply.picked", n=len(reply.candidates))}</p><ol class="pg-candidates">{rows}</ol>'
        )
    return f'<div class="pg-verdict">{"".join(parts)}</div>'


def _gauge(language: Language, reward: float, percentile: float | None) -> str:
    label = t(language, "reply.reward")
    if percentile is None:
        return f'<p class="pg-reward"><span>{label}</span> <b>{reward:+.2f}</b></p>'
    place = t(language, "reply.percentile", percent=f"{percentile:.0f}")
    return (
        f'<p class="pg-reward"><span>{label}</span> <b>{reward:+.2f}</b> <span>{place}</span></p>'
        f'<div class="pg-bar" role="meter" aria-label="{label}" aria-valuemin="0" aria-valuemax="100" aria-valuenow="{percentile:.0f}">'
        f'<i style="width:{percentile:.1f}%"></i></div>'
    )


def _candidate(language: Language, candidate: Candidate) -> str:
    width = "" if candidate.percentile is None else f'<i style="width:{candidate.percentile:.1f}%"></i>'
    return f'<li><b>{candidate.reward:+.2f}</b><span class="pg-bar">{width}</span><q>{escape(candidate.text) or t(language, "reply.empty")}</q></li>'


def stepper(language: Language, watch: RunWatch | None, starting: bool, failure: str | None) -> str:
    """The stages of a run as a row of steps, below it one bar and one sentence for the whole."""
    progress = watch.progress if watch else None
    if progress is None:
        key = "train.failed" if failure else "train.starting" if starting else "train.none"
        return f'<div class="pg-train"><p class="pg-state">{escape(t(language, key, message=failure))}</p></div>'
    states = _states(progress, alive=watch is not None and watch.alive)
    steps = "".join(
        f'<li class="pg-step pg-{state} pg-stage-{escape(stage)}"{" aria-current=step" if state == "active" else ""}>'
        f'<span class="pg-dot" aria-hidden="true"></span><span class="pg-name">{escape(stage_name(language, stage))}</span>'
        f'<span class="pg-hidden">{t(language, f"train.stage.{state}")}</span></li>'
        for stage, state in states.items()
    )
    percent = 100 if progress.state == "done" else 100 * progress.fraction
    return (
        f'<div class="pg-train"><ol class="pg-stepper">{steps}</ol>'
        f'<div class="pg-bar pg-whole" role="progressbar" aria-label="{t(language, "train.progress")}" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{percent:.0f}"><i style="width:{percent:.1f}%"></i></div>'
        f'<p class="pg-state">{escape(sentence(language, progress, watch is not None and watch.alive, failure))}</p></div>'
    )


def sentence(language: Language, progress: Progress, alive: bool, failure: str | None) -> str:
    """Where a run stands, in a line. Not escaped."""
    if progress.state == "done":
        return t(language, "train.done", time=duration(language, progress.seconds))
    if failure or progress.state == "failed":
        return t(language, "train.failed", message=failure or progress.message)
    if not alive:
        return t(language, "train.stopped")
    parts = [t(language, "train.running", percent=f"{100 * progress.fraction:.0f}", stage=stage_name(language, progress.stage))]
    if progress.steps:
        parts.append(t(language, "train.step", step=progress.step, steps=progress.steps))
    if progress.eta_seconds is not None:
        parts.append(t(language, "train.left", time=duration(language, progress.eta_seconds)))
    return " · ".join(parts)


def _states(progress: Progress, alive: bool) -> dict[str, str]:
    """Each stage's state: those before the current one are done, those after it are to come."""
    if progress.state == "done" or progress.stage not in progress.stages:
        return dict.fromkeys(progress.stages, "done" if progress.state == "done" else "pending")
    now = progress.stages.index(progress.stage)
    current = "active" if alive else "failed" if progress.state == "failed" else "pending"
    return {stage: "done" if i < now else current if i == now else "pending" for i, stage in enumerate(progress.stages)}


def banner(language: Language, watch: RunWatch | None, starting: bool, failure: str | None, anything: bool, may_train: bool) -> str:
    """The line above the chat: what is being trained, or why there is nothing to talk to. Empty when all is well."""
    progress = watch.progress if watch else None
    if watch and watch.alive and progress:
        text = f"{t(language, 'chat.training')}: {sentence(language, progress, True, None)}"
    elif failure:
        text = t(language, "train.failed", message=failure)
    elif starting:
        text = t(language, "train.starting")
    else:
        text = "" if anything or may_train else t(language, "chat.nothing.idle")
    if not anything and (may_train or starting):
        text = f"{text} {t(language, 'chat.nothing')}".strip()
    return f'<p class="pg-banner">{escape(text)}</p>' if text else ""


def samples(language: Language, logs: dict[str, StageLog]) -> str:
    """What the model said on its way, the newest on top."""
    events = [(stage, event) for stage, log in logs.items() for event in log.samples]
    if not events:
        return f'<p class="pg-state">{t(language, "train.samples.none")}</p>'
    cards = "".join(_sample_card(language, stage, event) for stage, event in reversed(events[-_SAMPLE_EVENTS:]))
    return f'<div class="pg-samples">{cards}</div>'


def _sample_card(language: Language, stage: str, event: list[Sample]) -> str:
    said = "".join(
        f"<dt>{escape(sample.prompt)}</dt><dd>{escape(sample.reply) or '…'}"
        + (f' <b class="pg-tag">{sample.reward:+.2f}</b>' if sample.reward is not None else "")
        + "</dd>"
        for sample in event
    )
    head = f"<header><b>{escape(stage_name(language, stage))}</b> {t(language, 'train.sample.step', step=event[0].step)}</header>"
    return f'<article class="pg-stage-{escape(stage)}">{head}<dl>{said}</dl></article>'
