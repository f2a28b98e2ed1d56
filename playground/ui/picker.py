"""The list from which a checkpoint is chosen, kept up to date while a run is being trained."""

from __future__ import annotations

from collections.abc import Sequence

import gradio as gr

from playground.writers import Choice


def picker(i18n: gr.I18n, elem_id: str, label: str = "chat.column") -> gr.Dropdown:
    """A list that is empty until :func:`offer` fills it."""
    return gr.Dropdown(label=i18n(label), choices=[], value=None, show_label=False, container=False, elem_id=elem_id)


def offer(choices: Sequence[Choice], value: str | None) -> gr.Dropdown:
    """The update that offers these choices."""
    return gr.Dropdown(choices=[(choice.title, choice.id) for choice in choices], value=value)


def assign(choices: Sequence[Choice], defaults: Sequence[str], chosen: Sequence[str | None]) -> list[str | None]:
    """What each list shows: what was chosen, while it is there; else its default, else the last choice."""
    ids = [choice.id for choice in choices]
    return [
        now if now in ids else defaults[place] if place < len(defaults) else (ids[-1] if ids else None) for place, now in enumerate(chosen)
    ]
