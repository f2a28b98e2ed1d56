"""Pieces of the page as HTML and Markdown. Whatever a model, a visitor or a file says is escaped here, and nowhere else."""

from __future__ import annotations

import re
from html import escape

from playground.chat.replies import Reply
from playground.reward_bar import bar, signed
from playground.texts import Language, duration, stage_name, t
from playground.training.curves import Progress, RunWatch, Sample, StageLog
from playground.training.watch import Trainer

_CODE = re.compile(r"(```.*?(?:```|\Z)|`[^`\n]+`)", re.DOTALL)
_BREAK = "\u200b"
_LIVELY = re.compile(r"(?<=<)(?=\u200b*[A-Za-z/!?])|(?<=!)(?=\u200b*\[)")
_BROKEN = re.compile(r"(?<=<)\u200b(?=\u200b*[A-Za-z/!?])|(?<=!)\u200b(?=\u200b*\[)")
"""Where a tag or an image would begin in code, and where one was broken."""
_EVENTS_NOW, _EVENTS_BEFORE = 4, 2


def safe_markdown(text: str) -> str:
    """Somebody's Markdown without HTML and without images, which would load from wherever they say. Code reads as it is.

    What a browser takes for code depends on more than backticks. So tags and images are broken in it, too, by a blank of no width.
    """
    pieces = _CODE.split(text)
    return "".join(_LIVELY.sub(_BREAK, piece) if place % 2 else _inert(piece) for place, piece in enumerate(pieces))


def typed(markdown: str) -> str:
    """What :func:`safe_markdown` was made of."""
    pieces = _CODE.split(markdown)
    return "".join(_BROKEN.sub("", piece) if place % 2 else _live(piece) for place, piece in enumerate(pieces))


def _inert(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("![", "!&#91;")


def _live(text: str) -> str:
    return text.replace("!&#91;", "![").replace("&lt;", "<").replace("&amp;", "&")


def reply_text(language: Language, reply: Reply) -> str:
    """What stands in the reply's bubble: its text, or what is being waited for, or the error."""
    if reply.error:
        return f"*{safe_markdown(reply.error)}*"
    if reply.text:
        return safe_markdown(reply.text)
    if reply.phase == "done":
        return f"*{t(language, 'reply.empty')}*"
    if reply.phase == "writing" and reply.drawn:
        return f"*{t(language, 'reply.drawing', drawn=reply.drawn, n=reply.wanted)}*"
    return f"*{t(language, f'reply.{reply.phase}')}*"


def stepper(language: Language, watch: RunWatch | None, starting: bool, failure: str | None, standing: str = "") -> str:
    """The stages of a run as a row of steps, below it one bar and one sentence for the whole: *standing*, where something says more."""
    progress = watch.progress if watch else None
    if watch is None or progress is None:
        key = "train.failed" if failure else "train.starting" if starting else "train.none"
        return f'<div class="pg-train"><p class="pg-state">{escape(standing or t(language, key, message=failure))}</p></div>'
    steps = "".join(_step(language, stage, state) for stage, state in _states(progress, watch.alive).items())
    filled = bar("progressbar", t(language, "train.progress"), 100 * progress.fraction)
    said = t(language, "train.starting") if starting and not watch.alive else sentence(language, watch, progress, failure)
    state = escape(standing or said)
    return f'<div class="pg-train"><ol class="pg-stepper">{steps}</ol>{filled}<p class="pg-state">{state}</p></div>'


def _step(language: Language, stage: str, state: str) -> str:
    current = ' aria-current="step"' if state == "active" else ""
    name, spoken = escape(stage_name(language, stage)), t(language, f"train.stage.{state}")
    inner = f'<span class="pg-dot" aria-hidden="true"></span><span class="pg-name">{name}</span><span class="pg-hidden">{spoken}</span>'
    return f'<li class="pg-step pg-{state}"{current}>{inner}</li>'


def sentence(language: Language, watch: RunWatch, progress: Progress, failure: str | None) -> str:
    """Where a run stands, in a line. Not escaped."""
    if progress.state == "done":
        worked = sum(log.seconds for log in watch.logs.values())
        return t(language, "train.done", time=duration(language, worked))
    if failure or progress.state == "failed":
        return t(language, "train.failed", message=failure or progress.message)
    if not watch.alive:
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


def banner(language: Language, watch: RunWatch | None, trainer: Trainer, anything: bool) -> str:
    """The line above the chat: what is being trained, or why there is nothing to talk to. Empty when all is well."""
    if watch and watch.alive and watch.progress:
        text = f"{t(language, 'chat.training')}: {sentence(language, watch, watch.progress, None)}"
    elif trainer.failure:
        text = t(language, "train.failed", message=trainer.failure)
    elif trainer.running:
        text = t(language, "train.starting")
    elif anything:
        return ""
    else:
        return f'<p class="pg-banner">{t(language, "train.stopped" if trainer.run else "chat.nothing.idle")}</p>'
    return f'<p class="pg-banner">{escape(text)}{"" if anything else "<br>" + t(language, "chat.nothing")}</p>'


def samples(language: Language, logs: dict[str, StageLog]) -> str:
    """What the model said on its way, the newest on top, the last words of each earlier stage below."""
    talking = [(stage, log.samples) for stage, log in logs.items() if log.samples]
    if not talking:
        return f'<p class="pg-state">{t(language, "train.samples.none")}</p>'
    cards = ""
    for place, (stage, events) in enumerate(reversed(talking)):
        shown = events[-(_EVENTS_BEFORE if place else _EVENTS_NOW) :]
        cards += "".join(_sample_card(language, stage, event) for event in reversed(shown))
    return f'<div class="pg-samples">{cards}</div>'


def _sample_card(language: Language, stage: str, event: list[Sample]) -> str:
    said = "".join(
        f"<dt>{escape(sample.prompt)}</dt><dd>{escape(sample.reply) or '…'}"
        + (f' <b class="pg-tag">{signed(sample.reward)}</b>' if sample.reward is not None else "")
        + "</dd>"
        for sample in event
    )
    head = f"<header><b>{escape(stage_name(language, stage))}</b> {t(language, 'train.sample.step', step=event[0].step)}</header>"
    return f'<article class="pg-stage-{escape(stage)}">{head}<dl>{said}</dl></article>'
