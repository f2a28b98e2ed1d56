"""The chat tab: one prompt, up to four checkpoints answering side by side, each in an event of its own."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import gradio as gr

from modelkit.errors import UserError
from playground import fragments
from playground.conversation import Board, Turn
from playground.prompts import examples
from playground.replies import ChatSettings, Reply
from playground.settings import COLUMNS, MAX_CANDIDATES, MAX_PROMPT_CHARACTERS, MAX_TOKENS
from playground.texts import Language, t
from playground.ui import visitor

if TYPE_CHECKING:
    from playground.ui.app import Services

REFRESH_SECONDS = 2.0
VISITORS_PER_COLUMN = 8
"""How many visitors' replies may be under way in one column; a model's own lock lets one of them write at a time."""

_log = logging.getLogger(__name__)


def build(page: gr.Blocks, services: Services, i18n: gr.I18n) -> None:
    """Lay out the tab and wire it."""
    with gr.Tab(i18n("tab.chat"), id="chat"):
        banner = gr.HTML(visible=False)
        columns, selectors, chats = _columns(i18n)
        with gr.Row(elem_id="pg-prompt"):
            prompt = _prompt(i18n)
            send = gr.Button(i18n("chat.send"), variant="primary", scale=0, interactive=False, elem_id="pg-send")
            stop = gr.Button(i18n("chat.stop"), variant="stop", scale=0, visible=False, elem_id="pg-stop")
            again = gr.Button(i18n("chat.again"), scale=0, elem_id="pg-again")
            clear = gr.Button(i18n("chat.clear"), scale=0, elem_id="pg-clear")
        with gr.Row(elem_id="pg-actions"):
            offers = gr.Dataset(components=[prompt], samples=[], label=i18n("chat.examples"), samples_per_page=10, scale=3)
            with gr.Accordion(i18n("chat.settings"), open=False):
                count = gr.Radio(list(range(1, COLUMNS + 1)), value=1, label=i18n("chat.columns"), elem_id="pg-count")
                sampling = _sampling(i18n)
    counted, seen = gr.State(False), gr.State(())

    on = _Handlers(services)
    conversations = [*chats, send, stop]
    quick: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "undocumented"}
    asked = [prompt.submit, send.click]
    starts = [
        gr.on(asked, on.begin, [prompt, count, *selectors], [prompt, *conversations], api_name="begin", **quick),
        offers.click(on.begin_with, [offers, count, *selectors], [prompt, *conversations], **quick),
        again.click(on.restart, [count, *selectors], conversations, api_name="again", **quick),
    ]
    writing = []
    for number, start in enumerate(starts):
        for column, chat in enumerate(chats):
            event = start.success(
                on.answer(column),
                sampling,
                chat,
                concurrency_id=f"column-{column + 1}",
                concurrency_limit=VISITORS_PER_COLUMN,
                show_progress="hidden",
                api_name=f"column_{column + 1}" if number == 0 else None,
                api_visibility="undocumented",
            )
            event.then(on.settle, None, [send, stop], **quick)
            writing.append(event)
    stop.click(on.stop, None, None, api_name="stop", **quick)
    clear.click(on.clear, None, conversations, cancels=writing, api_name="clear", **quick)
    count.input(on.show_columns, count, [counted, *columns], **quick)
    for selector, chat in zip(selectors, chats, strict=True):
        selector.change(on.introduce, selector, chat, **quick)
    page.unload(on.leave)
    gr.on(
        [page.load, gr.Timer(REFRESH_SECONDS).tick],
        on.refresh,
        [seen, counted, count, *selectors],
        [seen, banner, offers, count, send, *columns, *selectors],
        api_name="refresh",
        api_visibility="undocumented",
        show_progress="hidden",
        concurrency_limit=None,
    )


class _Handlers:
    """What the events call. All that a visitor has said lives in the board of their session, not in the page."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def begin(self, text: str, shown: int, request: gr.Request, *chosen: str | None) -> list[Any]:
        """Put a message to the columns shown: the prompt (now empty), the conversations, Send and Stop."""
        try:
            begun = self._board(request).begin(text or "", chosen[:shown])
        except UserError as error:
            raise gr.Error(str(error), print_exception=False) from None
        return ["", *self._conversations(request)] if begun else [gr.skip()] * (COLUMNS + 3)

    def begin_with(self, row: list[str], shown: int, request: gr.Request, *chosen: str | None) -> list[Any]:
        """Put one of the prompts on offer to the columns."""
        return self.begin(row[0], shown, request, *chosen)

    def restart(self, shown: int, request: gr.Request, *chosen: str | None) -> list[Any]:
        """Ask the last message once more."""
        self._board(request).again(chosen[:shown])
        return self._conversations(request)

    def answer(self, column: int) -> Callable[..., Iterator[Any]]:
        """The handler that lets one column answer."""

        def answer(temperature: float, top_p: float, max_tokens: int, seed: int, candidates: int, request: gr.Request) -> Iterator[Any]:
            board, language = self._board(request), visitor.language(request)
            try:
                settings = ChatSettings(temperature, top_p, int(max_tokens), int(seed or 0), int(candidates))
            except UserError as error:
                board.stop()
                raise gr.Error(str(error), print_exception=False) from None
            turns: list[Turn] = []
            try:
                for turns in board.answer(column, self._services.models, settings):
                    yield _messages(language, turns)
            except Exception:
                name = secrets.token_hex(4)
                _log.exception("reply %s failed", name)
                if turns:
                    reply = turns[-1].reply or Reply(turns[-1].checkpoint)
                    turns[-1].reply = replace(reply, phase="done", error=t(language, "reply.failed", id=name))
            yield _messages(language, board.conversations[column])

        return answer

    def settle(self, request: gr.Request) -> list[Any]:
        """Send comes back when the last column has finished."""
        return _buttons(self._board(request))

    def stop(self, request: gr.Request) -> None:
        """Stop every column."""
        self._board(request).stop()

    def clear(self, request: gr.Request) -> list[Any]:
        """Forget what was said."""
        self._board(request).clear()
        return self._conversations(request)

    def leave(self, request: gr.Request) -> None:
        """The visitor has closed the page."""
        self._services.boards.leave(request.session_hash or "")

    def show_columns(self, count: int) -> list[Any]:
        """The visitor has chosen how many columns there are; from now on that is kept."""
        return [True, *(gr.Column(visible=column < count) for column in range(COLUMNS))]

    def introduce(self, chosen: str | None, request: gr.Request) -> Any:
        """The line that stands in a column nobody has spoken in yet."""
        entry = next((entry for entry in self._services.models.catalogue() if entry.id == chosen), None)
        return gr.Chatbot(placeholder=t(visitor.language(request), f"chat.empty.{entry.kind}") if entry else None)

    def refresh(self, seen: tuple[int, ...], counted: bool, shown: int, request: gr.Request, *chosen: str | None) -> list[Any]:
        """Offer the checkpoints written since, and say what is being trained; only what has changed is sent."""
        language, models = visitor.language(request), self._services.models
        notice, entries = self._notice(language), models.catalogue()
        now = (hash(notice), hash((language, tuple(entry.id for entry in entries))))
        said = gr.HTML(notice, visible=bool(notice)) if now[:1] != seen[:1] else gr.skip()
        if now[1:] == seen[1:]:
            return [now, said, *[gr.skip()] * (2 * COLUMNS + 3)]
        defaults = models.defaults()
        values = _assign([entry.id for entry in entries], defaults, list(chosen))
        choices = [(entry.title(language), entry.id) for entry in entries]
        wanted = shown if counted else max(1, len(defaults))
        return [
            now,
            said,
            gr.Dataset(samples=[[text] for text in examples(entries[0].run if entries else None, language)]),
            wanted,
            gr.Button(interactive=bool(entries)),
            *(gr.Column(visible=column < wanted and bool(entries)) for column in range(COLUMNS)),
            *(gr.Dropdown(choices=choices, value=value) for value in values),
        ]

    def _board(self, request: gr.Request) -> Board:
        return self._services.boards.of(visitor.session(request))

    def _conversations(self, request: gr.Request) -> list[Any]:
        board, language = self._board(request), visitor.language(request)
        return [*(_messages(language, turns) for turns in board.conversations), *_buttons(board)]

    def _notice(self, language: Language) -> str:
        trainer = self._services.trainer
        watch = self._services.watches.of(trainer.run.name if trainer.run else None)
        if watch:
            watch.poll()
        return fragments.banner(language, watch, trainer, bool(self._services.models.catalogue()))


def _prompt(i18n: gr.I18n) -> gr.Textbox:
    return gr.Textbox(
        label=i18n("chat.prompt"),
        placeholder=i18n("chat.prompt.placeholder"),
        show_label=False,
        container=False,
        lines=1,
        max_lines=6,
        max_length=MAX_PROMPT_CHARACTERS,
        scale=8,
        elem_id="pg-message",
    )


def _columns(i18n: gr.I18n) -> tuple[list[gr.Column], list[gr.Dropdown], list[gr.Chatbot]]:
    columns, selectors, chats = [], [], []
    with gr.Row(elem_id="pg-columns"):
        for number in range(1, COLUMNS + 1):
            with gr.Column(visible=False, min_width=0) as column:
                selectors.append(
                    gr.Dropdown(
                        label=i18n("chat.column"), choices=[], value=None, show_label=False, container=False, elem_id=f"pg-select-{number}"
                    )
                )
                chats.append(
                    gr.Chatbot(
                        label=i18n("chat.conversation"),
                        show_label=False,
                        buttons=["copy"],
                        sanitize_html=True,
                        allow_tags=False,
                        feedback_options=None,
                        elem_id=f"pg-chat-{number}",
                    )
                )
            columns.append(column)
    return columns, selectors, chats


def _sampling(i18n: gr.I18n) -> list[Any]:
    usual = ChatSettings()
    return [
        gr.Slider(0, 2, usual.temperature, step=0.05, label=i18n("chat.temperature"), info=i18n("chat.temperature.info")),
        gr.Slider(0.05, 1, usual.top_p, step=0.05, label=i18n("chat.top_p")),
        gr.Slider(1, MAX_TOKENS, usual.max_tokens, step=1, label=i18n("chat.max_tokens")),
        gr.Number(usual.seed, label=i18n("chat.seed"), precision=0),
        gr.Slider(1, MAX_CANDIDATES, usual.candidates, step=1, label=i18n("chat.candidates")),
    ]


def _messages(language: Language, turns: list[Turn]) -> list[dict[str, Any]]:
    """A conversation as the chat component wants it: what was asked, what was replied, and below that the verdict."""
    messages: list[dict[str, Any]] = []
    for turn in turns:
        messages.append({"role": "user", "content": fragments.safe_markdown(turn.prompt)})
        if turn.reply:
            messages.append({"role": "assistant", "content": fragments.reply_text(language, turn.reply)})
            if turn.reply.phase == "done" and not turn.reply.error:
                messages.append({"role": "assistant", "content": gr.HTML(fragments.verdict(language, turn.reply))})
    return messages


def _buttons(board: Board) -> list[Any]:
    return [gr.Button(visible=not board.busy), gr.Button(visible=board.busy)]


def _assign(ids: list[str], defaults: list[str], chosen: list[str | None]) -> list[str | None]:
    """What each selector shows: what was chosen, while it is there; else its default, else the last checkpoint."""
    return [
        now if now in ids else defaults[column] if column < len(defaults) else (ids[-1] if ids else None)
        for column, now in enumerate(chosen)
    ]
