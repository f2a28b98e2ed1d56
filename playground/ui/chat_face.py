"""What the chat tab is made of: its components, laid out, and what they hold as one setting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from modelkit.errors import UserError
from playground.chat.settings import PRESETS, ChatSettings, Setting
from playground.settings import COLUMNS, MAX_CANDIDATES, MAX_PROMPT_CHARACTERS
from playground.ui.picker import picker
from playground.ui.signals import signal

LATEX: list[dict[str, str | bool]] = [
    {"left": "$$", "right": "$$", "display": True},
    {"left": "\\[", "right": "\\]", "display": True},
    {"left": "\\(", "right": "\\)", "display": False},
]
"""A single dollar is a sum of money more often than mathematics."""


@dataclass
class Column:
    """One checkpoint's place: who answers, the conversation, a way to stop it, and settings of its own."""

    box: gr.Column
    selector: gr.Dropdown
    stop: gr.Button
    chat: gr.Chatbot
    folder: gr.Accordion
    own: list[gr.Slider | gr.Number]


@dataclass
class Face:
    """All components of the tab that events read or change."""

    banner: gr.HTML
    columns: list[Column]
    prompt: gr.Textbox
    send: gr.Button
    stop: gr.Button
    again: gr.Button
    undo: gr.Button
    clear: gr.Button
    count: gr.Radio
    examples: gr.Dataset
    system: gr.Textbox
    presets: dict[str, gr.Button]
    shared: list[gr.Slider | gr.Number]
    apart: gr.Checkbox
    link: gr.Textbox
    make_link: gr.Button
    exports: dict[str, gr.Button]
    pick: gr.HTML

    @property
    def chats(self) -> list[gr.Chatbot]:
        """The conversations, from left to right."""
        return [column.chat for column in self.columns]

    @property
    def inputs(self) -> list[Any]:
        """What :func:`setting_of` reads."""
        selectors = [column.selector for column in self.columns]
        own = [part for column in self.columns for part in column.own]
        return [self.count, *selectors, *self.shared, self.system, self.apart, *own]

    def showing(self, setting: Setting) -> dict[Any, Any]:
        """The updates that make the settings' components show *setting*, the models aside."""
        updates: dict[Any, Any] = dict(zip(self.shared, _values(setting.shared), strict=True))
        updates |= {self.system: setting.shared.system, self.apart: setting.own is not None}
        for place, column in enumerate(self.columns):
            updates[column.folder] = gr.Accordion(visible=setting.own is not None)
            updates |= dict(zip(column.own, _values(setting.of(place))[:-1], strict=True))
        return updates


def setting_of(prompt: str, *values: Any) -> Setting:
    """What the visitor has set, from the values of :attr:`Face.inputs`.

    :raises UserError: when a value is out of bounds or no number.
    """
    try:
        count, rest = int(values[0]), list(values[1:])
        models, rest = rest[:COLUMNS], rest[COLUMNS:]
        shared, (system, apart), own = rest[:6], rest[6:8], rest[8:]
        columns = [own[5 * place : 5 * place + 5] for place in range(COLUMNS)]
        each = tuple(_settings([*column, shared[-1]]) for column in columns) if apart else None
        return Setting(tuple(name or "" for name in models[:count]), prompt, _settings(shared, system or ""), each)
    except (TypeError, ValueError, OverflowError):
        raise UserError("a setting is no number: put one in its place.") from None


def _settings(numbers: Sequence[float | None], system: str = "") -> ChatSettings:
    temperature, top_p, tokens, seed, n, best_of = (number or 0 for number in numbers)
    return ChatSettings(temperature, top_p, int(tokens), int(seed), int(n), int(best_of), system)


def _values(settings: ChatSettings) -> list[float]:
    return [settings.temperature, settings.top_p, settings.max_tokens, settings.seed, settings.n, settings.best_of]


def lay_out(i18n: gr.I18n, longest: int) -> Face:
    """The tab's components in their places; a reply may have up to *longest* tokens."""
    banner = gr.HTML(visible=False)
    with gr.Row(elem_id="pg-columns"):
        columns = [_column(i18n, number, longest) for number in range(1, COLUMNS + 1)]
    with gr.Row(elem_id="pg-prompt"):
        prompt = gr.Textbox(
            label=i18n("chat.prompt"),
            placeholder=i18n("chat.prompt.placeholder"),
            show_label=False,
            container=False,
            lines=1,
            max_lines=6,
            max_length=MAX_PROMPT_CHARACTERS,
            autofocus=True,
            scale=8,
            elem_id="pg-message",
        )
        send = gr.Button(i18n("chat.send"), variant="primary", scale=0, interactive=False, elem_id="pg-send")
        stop = gr.Button(i18n("chat.stop"), variant="stop", scale=0, visible=False, elem_id="pg-stop")
    with gr.Row(elem_id="pg-tools"):
        again = gr.Button(i18n("chat.again"), size="sm", scale=0, elem_id="pg-again")
        undo = gr.Button(i18n("chat.undo"), size="sm", scale=0, elem_id="pg-undo")
        clear = gr.Button(i18n("chat.clear"), size="sm", scale=0, elem_id="pg-clear")
        count = gr.Radio(list(range(1, COLUMNS + 1)), value=1, label=i18n("chat.columns"), elem_id="pg-count")
    examples = gr.Dataset(components=[prompt], samples=[], label=i18n("chat.examples"), samples_per_page=10, elem_id="pg-examples")
    with gr.Row(elem_id="pg-actions"):
        with gr.Accordion(i18n("chat.settings"), open=False, elem_id="pg-settings"):
            system = gr.Textbox(
                label=i18n("chat.system"), placeholder=i18n("chat.system.placeholder"), lines=2, max_length=MAX_PROMPT_CHARACTERS
            )
            with gr.Row(elem_id="pg-presets"):
                presets = {name: gr.Button(i18n(f"chat.preset.{name}"), size="sm", scale=0) for name in PRESETS}
            with gr.Row(elem_classes="pg-sliders"):
                shared = [*_sliders(i18n, longest), _best_of(i18n)]
            apart = gr.Checkbox(False, label=i18n("chat.apart"), info=i18n("chat.apart.info"), elem_id="pg-apart")
        with gr.Accordion(i18n("chat.share"), open=False, elem_id="pg-share"):
            with gr.Row():
                make_link = gr.Button(i18n("chat.link.make"), size="sm", scale=0, elem_id="pg-make-link")
                exports = {
                    kind: gr.Button(i18n(f"chat.export.{kind}"), size="sm", scale=0, elem_id=f"pg-{kind}") for kind in ("jsonl", "md")
                }
            link = gr.Textbox(label=i18n("chat.link"), interactive=False, buttons=["copy"], visible=False, elem_id="pg-link")
    return Face(
        banner, columns, prompt, send, stop, again, undo, clear, count, examples, system, presets, shared, apart, link, make_link, exports,
        signal("pick"),
    )  # fmt: skip


def _column(i18n: gr.I18n, number: int, longest: int) -> Column:
    with gr.Column(visible=False, min_width=0, elem_id=f"pg-column-{number}") as box:
        with gr.Row(elem_classes="pg-column-head"):
            selector = picker(i18n, f"pg-select-{number}")
            stop = gr.Button(i18n("chat.stop"), size="sm", variant="stop", scale=0, visible=False, elem_id=f"pg-stop-{number}")
        chat = gr.Chatbot(
            label=i18n("chat.conversation"),
            show_label=False,
            buttons=["copy"],
            editable="user",
            sanitize_html=True,
            allow_tags=False,
            latex_delimiters=LATEX,
            feedback_options=None,
            elem_id=f"pg-chat-{number}",
        )
        with gr.Accordion(i18n("chat.own"), open=False, visible=False, elem_id=f"pg-own-{number}") as folder:
            own = _sliders(i18n, longest)
    return Column(box, selector, stop, chat, folder, own)


def _sliders(i18n: gr.I18n, longest: int) -> list[gr.Slider | gr.Number]:
    usual = ChatSettings()
    return [
        gr.Slider(0, 2, usual.temperature, step=0.05, label=i18n("chat.temperature"), info=i18n("chat.temperature.info")),
        gr.Slider(0.05, 1, usual.top_p, step=0.05, label=i18n("chat.top_p"), info=i18n("chat.top_p.info")),
        gr.Slider(1, longest, min(usual.max_tokens, longest), step=1, label=i18n("chat.max_tokens")),
        gr.Number(usual.seed, label=i18n("chat.seed"), precision=0, minimum=0),
        gr.Slider(1, MAX_CANDIDATES, usual.n, step=1, label=i18n("chat.n"), info=i18n("chat.n.info")),
    ]


def _best_of(i18n: gr.I18n) -> gr.Slider:
    return gr.Slider(1, MAX_CANDIDATES, ChatSettings().best_of, step=1, label=i18n("chat.candidates"))


def shown(values: Sequence[Any]) -> list[str | None]:
    """The checkpoints of the columns shown, from the values of :attr:`Face.inputs`."""
    return [name or None for name in values[1 : 1 + int(values[0])]]
