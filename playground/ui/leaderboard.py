"""The leaderboard tab: a frame with the leaderboard's own page, which leaderboard.tab.js dresses like this one and keeps up to date."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gradio as gr

from playground.leaderboard import PATH

if TYPE_CHECKING:
    from playground.ui.app import Services


def build(page: gr.Blocks, services: Services, i18n: gr.I18n) -> None:
    """Lay out the tab. The frame is loaded when it is first seen."""
    with gr.Tab(i18n("tab.leaderboard"), id="leaderboard"):
        gr.Markdown(i18n("leaderboard.intro"), elem_classes="pg-note")
        gr.HTML(f'<iframe id="pg-leaderboard" src="{PATH.lstrip("/")}" loading="lazy" title="Leaderboard · 排行榜"></iframe>')
