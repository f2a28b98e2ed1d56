"""The microscope tab: a prompt and a reply, read by two checkpoints; a token that is clicked shows what else could stand there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from modelkit.errors import UserError
from playground.microscope import reading as microscope
from playground.microscope.card import alternatives, card
from playground.microscope.reading import Reading
from playground.prompts import examples
from playground.settings import MAX_PROMPT_CHARACTERS
from playground.texts import Language, t
from playground.ui import visitor
from playground.ui.signals import signal

if TYPE_CHECKING:
    from playground.ui.app import Services

READINGS_AT_ONCE = 8
Updates = dict[Any, Any]


@dataclass
class Face:
    """The components that events read or change. ``reading`` holds what is on show."""

    before: gr.Dropdown
    after: gr.Dropdown
    prompt: gr.Textbox
    reply: gr.Textbox
    card: gr.HTML
    detail: gr.HTML
    reading: gr.State


def build(page: gr.Blocks, services: Services, i18n: gr.I18n) -> None:
    """Lay out the tab and wire it."""
    with gr.Tab(i18n("tab.microscope"), id="microscope") as tab:
        gr.Markdown(i18n("microscope.intro"), elem_classes="pg-note")
        with gr.Row():
            before, after = (
                gr.Dropdown([], label=i18n(f"microscope.{side}"), filterable=False, elem_id=f"pg-microscope-{side}")
                for side in ("before", "after")
            )
        with gr.Row():
            prompt, reply = (
                gr.Textbox(
                    label=i18n(f"microscope.{name}"),
                    lines=2,
                    max_lines=8,
                    max_length=MAX_PROMPT_CHARACTERS,
                    elem_id=f"pg-microscope-{name}",
                )
                for name in ("prompt", "reply")
            )
        with gr.Row(elem_id="pg-microscope-do"):
            look = gr.Button(i18n("microscope.look"), variant="primary", elem_id="pg-microscope-look")
            write = gr.Button(i18n("microscope.write"), elem_id="pg-microscope-write")
            chat = gr.Button(i18n("microscope.chat"), elem_id="pg-microscope-chat")
        shown = gr.HTML(elem_id="pg-microscope-card")
        detail = gr.HTML(elem_id="pg-microscope-detail")
        reading: gr.State = gr.State(None)
        token, alternative = signal("token"), signal("alternative")
    face = Face(before, after, prompt, reply, shown, detail, reading)
    on = _Events(services, face)
    asked, changed = [before, after, prompt, reply], [reply, shown, detail, reading]
    model: dict[str, Any] = {"concurrency_id": "microscope", "concurrency_limit": READINGS_AT_ONCE, "api_visibility": "undocumented"}
    quick: dict[str, Any] = {"concurrency_limit": None, "api_visibility": "undocumented", "show_progress": "hidden"}
    look.click(on.look, asked, changed, api_name="microscope_look", **model)
    write.click(on.write, asked[:3], changed, api_name="microscope_write", **model)
    chat.click(on.from_chat, asked[:2], [prompt, *changed], api_name="microscope_chat", **model)
    token.click(on.choose, reading, detail, api_name="microscope_token", **quick)
    alternative.click(on.go_on, reading, [prompt, *changed], api_name="microscope_alternative", **model)
    gr.on([page.load, tab.select], on.offer, asked[:3], asked[:3], api_name="microscope_offer", **quick)


class _Events:
    """The tab's handlers. What a visitor's browser tells of tokens is checked against the reading on show."""

    def __init__(self, services: Services, face: Face) -> None:
        self._services, self._face = services, face

    def offer(self, before: str | None, after: str | None, prompt: str, request: gr.Request) -> Updates:
        """The checkpoints that can be compared, SFT and RL chosen at first, and a prompt to begin with."""
        models, language = self._services.models, visitor.language(request)
        choices = [(entry.title(language), entry.id) for entry in microscope.offered(models)]
        ids = [name for _, name in choices]
        chosen = zip((self._face.before, self._face.after), (before, after), microscope.default_pair(models), strict=True)
        parts = {part: gr.Dropdown(choices, value=now if now in ids else default) for part, now, default in chosen}
        return {**parts, self._face.prompt: prompt or self._first_prompt(language, request)}

    def _first_prompt(self, language: Language, request: gr.Request) -> str:
        """What the chat was asked last, else the first of its examples."""
        board = self._services.boards.of(visitor.session(request))
        run = next((entry.run for entry in self._services.models.catalogue() if entry.run), None)
        return board.rounds[-1].prompt if board.rounds else examples(run, language)[0]

    def look(self, before: str | None, after: str | None, prompt: str, reply: str, request: gr.Request) -> Updates:
        """Read the reply."""
        with visitor.told():
            visitor.admit(self._services.admission, request, prompt, reply)
            return self._read(before or "", after or "", prompt, reply, request)

    def write(self, before: str | None, after: str | None, prompt: str, request: gr.Request) -> Updates:
        """Let the second checkpoint write the reply, and read it."""
        with visitor.told():
            visitor.admit(self._services.admission, request, prompt)
            reply = self._services.compute(microscope.write, after or "", prompt)
            return self._read(before or "", after or "", prompt, reply, request)

    def from_chat(self, before: str | None, after: str | None, request: gr.Request) -> Updates:
        """Read the chat's last reply: the second checkpoint's where it took part, else the rightmost one."""
        board = self._services.boards.of(visitor.session(request))
        last = board.rounds[-1] if board.rounds else None
        replies = [reply for _, reply in sorted(last.replies.items()) if reply.phase == "done" and reply.answered] if last else []
        if last is None or not replies:
            raise gr.Error(t(visitor.language(request), "microscope.none"), print_exception=False)
        reply = next((reply for reply in replies if reply.checkpoint == after), replies[-1])
        with visitor.told():
            visitor.admit(self._services.admission, request)
            return {self._face.prompt: last.prompt, **self._read(before or "", after or "", last.prompt, reply.text, request)}

    def choose(self, event: gr.EventData, reading: Reading | None, request: gr.Request) -> str:
        """What could stand at the token that was clicked."""
        places = _numbers(event, 1)
        if reading is None or places is None or not 0 <= places[0] < len(reading.tokens):
            return ""
        language = visitor.language(request)
        return alternatives(language, reading, places[0], self._titles(reading, language))

    def go_on(self, event: gr.EventData, reading: Reading | None, request: gr.Request) -> Updates:
        """Put another token in its place, let a checkpoint go on, and read what came of it, whatever has been typed meanwhile."""
        told = _numbers(event, 3)
        with visitor.told():
            if reading is None or told is None or told[2] not in (0, 1):
                raise UserError("this token is not on offer any more: look at the reply again.")
            place, token, side = told
            visitor.admit(self._services.admission, request)
            reply = self._services.compute(microscope.go_on, reading, place, token, (reading.before, reading.after)[side])
            read = self._read(reading.before, reading.after, reading.prompt, reply, request)
            return {self._face.prompt: reading.prompt, **read}

    def _read(self, before: str, after: str, prompt: str, reply: str, request: gr.Request) -> Updates:
        words = self._services.admission.words
        reply = words.mask(reply) if words else reply
        reading, language = self._services.compute(microscope.examine, before, after, prompt, reply), visitor.language(request)
        return {
            self._face.reply: reply,
            self._face.card: card(language, reading, self._titles(reading, language)),
            self._face.detail: f'<p class="pg-state">{t(language, "microscope.pick")}</p>',
            self._face.reading: reading,
        }

    def _titles(self, reading: Reading, language: Language) -> tuple[str, str]:
        return self._title(reading.before, language), self._title(reading.after, language)

    def _title(self, checkpoint: str, language: Language) -> str:
        choice = self._services.writers.choice(checkpoint, language)
        return choice.title if choice else checkpoint


def _numbers(event: gr.EventData, count: int) -> list[int] | None:
    """The numbers that a click tells, separated by points; ``None`` for anything else."""
    try:
        found = [int(part) for part in str(event.told).split(".")]
    except (ValueError, KeyError, AttributeError):
        return None
    return found if len(found) == count else None
