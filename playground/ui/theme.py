"""How the page looks: one accent, system fonts beside the bundled one, everything by CSS variables so that dark follows."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

_HERE = Path(__file__).parent
CSS = [_HERE / "theme.css", *sorted(_HERE.glob("*.tab.css"))]
"""What holds for the whole page, then each tab's own ``<tab>.tab.css``."""
SCRIPTS = [_HERE / "page.js", *sorted(_HERE.glob("*.tab.js"))]
"""The same for scripts; they only listen, and tell what was clicked."""

STAGE_COLOURS = {
    "base": "#8b95a7",
    "sft": "#3b82c4",
    "rm": "#c98a1b",
    "critic": "#a17bc9",
    "rl": "#1f9d7a",
    "dpo": "#8a6fd1",
    "kto": "#c2607f",
    "grpo": "#4f9d3a",
}
"""One colour per stage, readable on light and dark ground; theme.css uses the same."""


def theme() -> gr.themes.Base:
    """The page's theme, built without asking anybody."""
    return gr.themes.Default(
        primary_hue="teal",
        secondary_hue="teal",
        neutral_hue="slate",
        radius_size="md",
        spacing_size="md",
        font=[
            gr.themes.LocalFont("Source Sans Pro", weights=(400, 700)),
            "ui-sans-serif",
            "system-ui",
            "PingFang SC",
            "Noto Sans CJK SC",
            "Microsoft YaHei",
            "sans-serif",
        ],
        font_mono=[gr.themes.LocalFont("IBM Plex Mono", weights=(400, 700)), "ui-monospace", "Consolas", "monospace"],
    ).set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        body_text_color_subdued="*neutral_500",
        body_text_color_subdued_dark="*neutral_400",
        block_shadow="none",
        block_border_width="1px",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_800",
        button_primary_text_color="white",
        button_primary_text_color_dark="white",
    )
