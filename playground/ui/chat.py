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
from playground.texts import Language, language_of, t

if TYPE_CHECKING:
    from playground.ui.app import Services

REFRESH_SECONDS = 2.0
VISITORS_PER_COLUMN = 8
"""How many visitors' replies may be under way in one column; a model's own lock lets one of them write at a time."""

_log = logging.getLogger(__name__)


def build(page: gr.Blocks, services: Services, i18n: gr.I18n) -> None:
    """Lay out the tab and wire it."""
    banner = gr.HTML(visible=False)
    columns, selectors, chats = _columns(i18n)
    with gr.Row(elem_id="pg-prompt"):
        prompt = gr.Textbox(
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
        send = gr.Button(i18n("chat.send"), variant="primary", scale=0, interactive=False, elem_id="pg-send")
        stop = gr.Button(i18n("chat.stop"), variant="stop", scale=0, visible=False, elem_id="pg-stop")
        again = gr.Button(i18n("chat.again"), scale=0, elem_id="pg-again")
        clear = gr.Button(i18n("chat.clear"), scale=0, elem_id="pg-clear")
    with gr.Row(elem_id="pg-actions"):
        offers = gr.Dataset(
            components=[prompt], samples=[], label=i18n("chat.examples"), samples_per_page=10, scale=3, elem_id="pg-examples"
        )
        with gr.Accordion(i18n("chat.settings"), open=False):
            count = gr.Radio([1, 2, 3, 4], value=1, label=i18n("chat.columns"), elem_id="pg-count")
            sampling = _sampling(i18n)
    counted = gr.State(False)
    seen = gr.State(())

    def board(request: gr.Request) -> Board:
        return services.boards.of(request.session_hash or secrets.token_hex(8))

    def shown(request: gr.Request) -> list[Any]:
        """The columns' conversations, and which of Send and Stop can be pressed."""
        mine, language = board(request), _language(request)
        return [*(_messages(language, turns) for turns in mine.conversations), *_buttons(mine)]

    def begin(text: str, shown_columns: int, request: gr.Request, *chosen: str | None) -> list[Any]:
        try:
            begun = board(request).begin(text or "", chosen[:shown_columns])
        except UserError as error:
            raise gr.Error(str(error), print_exception=False) from None
        return ["", *shown(request)] if begun else [gr.skip()] * (COLUMNS + 3)

    def begin_with(row: list[str], shown_columns: int, request: gr.Request, *chosen: str | None) -> list[Any]:
        return begin(row[0], shown_columns, request, *chosen)

    def restart(shown_columns: int, request: gr.Request, *chosen: str | None) -> list[Any]:
        board(request).again(chosen[:shown_columns])
        return shown(request)

    def wipe(request: gr.Request) -> list[Any]:
        board(request).clear()
        return shown(request)

    def buttons(request: gr.Request) -> list[Any]:
        return _buttons(board(request))

    def halt(request: gr.Request) -> None:
        board(request).stop()

    def leave(request: gr.Request) -> None:
        services.boards.leave(request.session_hash or "")

    chat_outputs = [*chats, send, stop]
    quick: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "undocumented"}
    asked = [prompt.submit, send.click]
    starts = [
        gr.on(asked, begin, [prompt, count, *selectors], [prompt, *chat_outputs], api_name="begin", **quick),
        offers.click(begin_with, [offers, count, *selectors], [prompt, *chat_outputs], **quick),
        again.click(restart, [count, *selectors], chat_outputs, api_name="again", **quick),
    ]
    answers = [_answer(column, services, board) for column in range(COLUMNS)]
    writing = []
    for number, start in enumerate(starts):
        for column, chat in enumerate(chats):
            event = start.success(
                answers[column],
                sampling,
                chat,
                concurrency_id=f"column-{column + 1}",
                concurrency_limit=VISITORS_PER_COLUMN,
                show_progress="hidden",
                api_name=f"column_{column + 1}" if number == 0 else None,
                api_visibility="undocumented",
            )
            event.then(buttons, None, [send, stop], **quick)
            writing.append(event)
    stop.click(halt, None, None, api_name="stop", **quick)
    clear.click(wipe, None, chat_outputs, cancels=writing, api_name="clear", **quick)

    def refresh(seen: tuple[int, ...], counted: bool, shown_columns: int, request: gr.Request, *chosen: str | None) -> list[Any]:
        language = _language(request)
        notice, entries = _notice(language, services), services.models.catalogue()
        now = (hash(notice), hash((language, tuple(entry.id for entry in entries))))
        first = gr.HTML(notice, visible=bool(notice)) if now[:1] != seen[:1] else gr.skip()
        if now[1:] == seen[1:]:
            return [now, first, *[gr.skip()] * (2 * COLUMNS + 3)]
        values = _assign([entry.id for entry in entries], services.models.defaults(), list(chosen))
        choices = [(entry.title(language), entry.id) for entry in entries]
        wanted = shown_columns if counted else min(COLUMNS, max(1, len(services.models.defaults())))
        offers = gr.Dataset(samples=[[text] for text in examples(entries[0].run if entries else None, language)])
        return [
            now,
            first,
            offers,
            wanted,
            gr.Button(interactive=bool(entries)),
            *(gr.Column(visible=column < wanted and bool(entries)) for column in range(COLUMNS)),
            *(gr.Dropdown(choices=choices, value=value) for value in values),
        ]

    def introduce(chosen: str | None, request: gr.Request) -> Any:
        return _introduction(services, chosen, _language(request))

    timer = gr.Timer(REFRESH_SECONDS)
    gr.on(
        [page.load, timer.tick],
        refresh,
        [seen, counted, count, *selectors],
        [seen, banner, offers, count, send, *columns, *selectors],
        api_name="refresh",
        api_visibility="undocumented",
        show_progress="hidden",
        concurrency_limit=None,
    )
    count.input(
        lambda wanted: [True, *(gr.Column(visible=column < wanted) for column in range(COLUMNS))], count, [counted, *columns], **quick
    )
    for selector, chat in zip(selectors, chats, strict=True):
        selector.change(introduce, selector, chat, **quick)
    page.unload(leave)


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


def _answer(column: int, services: Services, board: Callable[[gr.Request], Board]) -> Callable[..., Iterator[Any]]:
    """The handler of one column."""

    def answer(temperature: float, top_p: float, max_tokens: int, seed: int, candidates: int, request: gr.Request) -> Iterator[Any]:
        mine, language = board(request), _language(request)
        try:
            settings = ChatSettings(temperature, top_p, int(max_tokens), int(seed or 0), int(candidates))
        except UserError as error:
            mine.stop()
            raise gr.Error(str(error), print_exception=False) from None
        turns: list[Turn] = []
        try:
            for turns in mine.answer(column, services.models, settings):
                yield _messages(language, turns)
        except Exception:
            name = secrets.token_hex(4)
            _log.exception("reply %s failed", name)
            if turns:
                reply = turns[-1].reply or Reply(turns[-1].checkpoint)
                turns[-1].reply = replace(reply, phase="done", error=t(language, "reply.failed", id=name))
        yield _messages(language, mine.conversations[column])

    return answer


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


def _introduction(services: Services, chosen: str | None, language: Language) -> Any:
    """The line that stands in a column nobody has spoken in yet."""
    entry = next((entry for entry in services.models.catalogue() if entry.id == chosen), None)
    return gr.Chatbot(placeholder=t(language, f"chat.empty.{entry.kind}") if entry else None)


def _notice(language: Language, services: Services) -> str:
    trainer = services.trainer
    watch = services.watches.of(trainer.run.name if trainer.run else None)
    if watch:
        watch.poll()
    return fragments.banner(language, watch, trainer, bool(services.models.catalogue()))


def _language(request: gr.Request) -> Language:
    return language_of(request.headers.get("accept-language"))
