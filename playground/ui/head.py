"""What stands above the tabs: the page's name, and the switches for language and colours."""

from __future__ import annotations

from html import escape

import gradio as gr

from playground.texts import LANGUAGES, t

_NAMES = {"en": "English", "zh": "中文"}


def head(i18n: gr.I18n) -> None:
    """Lay out the head. Its buttons are page.js's; they bring every language's text with them, of which front.py shows one."""
    with gr.Row(elem_id="pg-head"):
        gr.HTML(f"<h1>{t('en', 'title')}</h1>")
        gr.Markdown(i18n("subtitle"))
        languages = "".join(
            f'<button type="button" data-pg-language="{name}" lang="{name}" title="{t(name, "head.language")}">{_NAMES[name]}</button>'
            for name in LANGUAGES
        )
        gr.HTML(
            f'<div class="pg-switches">{languages}<button type="button" data-pg-theme><span class="pg-moon" aria-hidden="true"></span>'
            f'<span class="pg-hidden">{in_every_language("head.theme")}</span></button></div>'
        )


def in_every_language(key: str) -> str:
    """A text in all languages; front.py hides those that the page isn't in."""
    return "".join(f'<span class="pg-in" lang="{name}">{escape(t(name, key))}</span>' for name in LANGUAGES)
