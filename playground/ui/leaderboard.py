"""The leaderboard tab: the stages of every run by task, read again whenever the tab is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gradio as gr

from modelkit.errors import UserError
from playground.texts import t
from playground.ui import visitor

if TYPE_CHECKING:
    from playground.ui.app import Services


def build(page: gr.Blocks, services: Services, i18n: gr.I18n) -> None:
    """Lay out the tab and wire it."""
    with gr.Tab(i18n("tab.leaderboard"), id="leaderboard") as tab:
        gr.Markdown(i18n("leaderboard.intro"), elem_classes="pg-note")
        table = gr.Dataframe(
            label=i18n("leaderboard.table"),
            datatype="str",
            interactive=False,
            wrap=True,
            visible=False,
            buttons=["copy", "fullscreen"],
            pinned_columns=1,
            elem_id="pg-leaderboard",
        )
        note = gr.Markdown()

    def refresh(request: gr.Request) -> tuple[object, str]:
        language = visitor.language(request)
        try:
            ranking = services.rankings(language)
        except UserError as error:
            return gr.Dataframe(visible=False), str(error)
        if ranking.empty:
            return gr.Dataframe(visible=False), t(language, "leaderboard.none")
        return gr.Dataframe(ranking.astype(str), visible=True), ""

    tab.select(refresh, None, [table, note], api_name="leaderboard", api_visibility="undocumented", show_progress="hidden")
