"""What the chat tab's events do. All that a visitor has said lives in the board of their tab, not in the page."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import gradio as gr

from playground import fragments
from playground.chat import transcript
from playground.chat.conversation import Board
from playground.chat.links import read_link, write_link
from playground.chat.settings import ChatSettings, Setting
from playground.hosting.host import Host
from playground.hosting.pace import note
from playground.prompts import examples
from playground.settings import COLUMNS
from playground.texts import Language, t
from playground.ui import clock, visitor
from playground.ui.chat_face import Face, setting_of, shown
from playground.ui.chat_messages import View
from playground.ui.picker import assign, offer

if TYPE_CHECKING:
    from playground.ui.app import Services

_LAST_WORDS_SECONDS = 1.0
Updates = dict[Any, Any]
Handler = Callable[..., Any]


def _read_arrival(told: str) -> tuple[str, str]:
    """The tab's key and the address's query, from what the page's script told; empty where it told nonsense."""
    try:
        said = json.loads(told or "{}")
        return str(said.get("key", "")), str(said.get("query", ""))
    except (ValueError, AttributeError):
        return "", ""


class Events:
    """The tab's handlers. Each returns updates by component; ``asked`` counts the askings, and its change lets the columns answer."""

    def __init__(self, services: Services, face: Face, asked: gr.State, counted: gr.State, seen: gr.State, timer: gr.Timer) -> None:
        self._services, self._face, self._timer = services, face, timer
        self._asked, self._counted, self._seen = asked, counted, seen

    def begin(self, text: str, asked: int, request: gr.Request, *values: Any) -> Updates:
        """Put a message to the columns shown."""

        def ask(board: Board) -> bool:
            return board.begin(text or "", shown(values))

        updates = self._ask(ask, asked, values, request, text)
        return {**updates, self._face.prompt: ""} if self._asked in updates else updates

    def begin_with(self, row: list[str], asked: int, request: gr.Request, *values: Any) -> Updates:
        """Put one of the prompts on offer to the columns."""
        return self._ask(lambda board: board.begin(row[0], shown(values)), asked, values, request, row[0])

    def again(self, asked: int, request: gr.Request, *values: Any) -> Updates:
        """Ask every column the last message once more."""
        return self._ask(lambda board: board.again(shown(values)), asked, values, request)

    def again_in(self, column: int) -> Handler:
        """The handler that asks one column the last message once more."""

        def again(asked: int, request: gr.Request, *values: Any) -> Updates:
            return self._ask(lambda board: board.again(shown(values), column), asked, values, request)

        return again

    def edit(self, column: int) -> Handler:
        """The handler that asks something else in a round, in all columns, where it was edited in one; what followed is forgotten."""

        def edit(event: gr.EditData, asked: int, request: gr.Request, *values: Any) -> Updates:
            index = event.index if isinstance(event.index, int) else event.index[0]
            place = self._view(request).place_of(column, index)
            text = fragments.typed(str(event.value))
            return self._ask(lambda board: board.edit(place, text, shown(values)), asked, values, request, text)

        return edit

    def answer(self, column: int) -> Handler:
        """The handler that lets one column answer, if it has been asked."""
        chat, stop = self._face.columns[column].chat, self._face.columns[column].stop

        def answer(request: gr.Request) -> Iterator[Updates]:
            board, view = self._board(request), self._view(request)
            setting = board.setting or Setting()
            if not board.at_work(column):
                return
            place = len(board.rounds) - 1
            past = [message for earlier in range(place) for message in view.round(earlier, column)]
            try:
                for _ in board.answer(column, self._services.writers.write, setting.of(column)):
                    yield {chat: [*past, *view.round(place, column)]}
            except Exception:
                board.fail(column, visitor.failed(view.language))
            if not board.at_work(column):
                yield {chat: view.column(column), stop: gr.Button(visible=False)}

        return answer

    def settle(self, request: gr.Request) -> Updates:
        """When the last column has finished: Send comes back, and replies are compared with their neighbours'."""
        return gr.skip() if self._board(request).busy else self._conversations(request)

    def stop(self, column: int | None = None) -> Handler:
        """The handler that stops one column, or all."""

        def stop(request: gr.Request) -> None:
            self._board(request).stop(column)

        return stop

    def undo(self, request: gr.Request) -> Updates:
        """Take the last message back into the prompt."""
        taken = self._board(request).undo()
        return {**self._conversations(request), **({self._face.prompt: taken} if taken else {})}

    def clear(self, request: gr.Request) -> Updates:
        """Forget what was said."""
        self._board(request).clear()
        return self._conversations(request)

    def pick(self, event: gr.EventData, request: gr.Request) -> Updates:
        """Go on with another of the samples that a reply was picked from."""
        try:
            place, column, candidate = (int(part) for part in str(event.told).split("."))
        except (ValueError, KeyError, AttributeError):
            return gr.skip()
        self._board(request).pick(place, column, candidate)
        view = self._view(request)
        return {chat: view.column(place) for place, chat in enumerate(self._face.chats) if not view.board.at_work(place)}

    def choose(self, column: int) -> Handler:
        """The handler of another checkpoint at a column's head: what stands there while nobody has spoken, and who wrote what."""
        chat = self._face.columns[column].chat

        def choose(chosen: str | None, request: gr.Request) -> Updates:
            board, language = self._board(request), visitor.language(request)
            choice = self._services.writers.choice(chosen, language) if chosen else None
            if choice:
                board.chosen[column] = choice.id
            if board.at_work(column):
                return gr.skip()
            empty = t(language, f"chat.empty.{choice.kind}") if choice else None
            return {chat: gr.Chatbot(self._view(request).column(column), placeholder=empty)}

        return choose

    def show_columns(self, count: int) -> Updates:
        """The visitor has chosen how many columns there are; from now on that is kept."""
        return {self._counted: True, **self._visible(int(count))}

    def show_own(self, apart: bool, *values: Any) -> Updates:
        """Settings in every column, which begin as those shared so far, or shared ones."""
        setting = setting_of("", *values)
        own = (setting.shared,) * COLUMNS if apart else None
        updates = self._face.showing(self._one_n(replace(setting, own=own)))
        return {part: updates[part] for column in self._face.columns for part in (column.folder, *column.own)}

    def link(self, prompt: str, request: gr.Request, *values: Any) -> Updates:
        """The address of what is set now, with the message that is being typed or was asked last."""
        board = self._board(request)
        with visitor.told():
            asked = (prompt or "").strip() or (board.rounds[-1].prompt if board.rounds else "")
            board.link = write_link(self._setting(asked, values))
        return {self._face.link: gr.Textbox(board.link, visible=True)}

    def export(self, kind: str) -> Handler:
        """The handler that gives the conversation as text, which the browser saves as a file."""

        def export(request: gr.Request) -> str:
            if kind == "jsonl":
                return transcript.jsonl(self._board(request))
            return transcript.markdown(self._board(request), self._services.writers, visitor.language(request))

        return export

    def arrive(self, arrival: str, request: gr.Request) -> Updates:
        """The page has been loaded, perhaps again: what the tab said before, or what the address asks for."""
        key, query = _read_arrival(arrival)
        board = self._services.boards.join(visitor.session(request), key)
        board.stop()
        until = time.monotonic() + _LAST_WORDS_SECONDS
        while board.busy and time.monotonic() < until:
            time.sleep(0.02)
        linked = read_link(query) if query != board.link else None
        if linked:
            board.clear()
            board.setting, board.link = linked, query
        setting = self._clamped(board.setting or Setting())
        wanted = [name or None for name in setting.models] + [None] * (COLUMNS - len(setting.models))
        updates: Updates = self._offers((), bool(setting.models), len(setting.models), wanted, request)
        updates |= self._conversations(request) | self._face.showing(self._one_n(setting))
        self._services.visited.set()
        return {**updates, self._face.prompt: setting.prompt if linked else ""}

    def refresh(self, seen: tuple[int, ...], counted: bool, request: gr.Request, count: int, *chosen: str | None) -> Updates:
        """Offer the checkpoints written since, and say what is being trained; only what has changed is sent."""
        return self._offers(seen, counted, int(count), list(chosen), request)

    def leave(self, request: gr.Request) -> None:
        """The visitor has closed the page."""
        self._services.boards.leave(visitor.session(request))

    def _ask(self, ask: Callable[[Board], bool], asked: int, values: Sequence[Any], request: gr.Request, said: str = "") -> Updates:
        board = self._board(request)
        with visitor.told():
            setting = self._setting("", values)
            visitor.admit(self._services.admission, request, said, setting.shared.system)
            if not ask(board):
                return gr.skip()
        board.setting = setting
        return {self._asked: asked + 1, **self._conversations(request)}

    def _offers(self, seen: tuple[int, ...], counted: bool, count: int, chosen: Sequence[str | None], request: gr.Request) -> Updates:
        face, writers, language = self._face, self._services.writers, visitor.language(request)
        choices = writers.choices(language)
        notice = self._notice(language, bool(choices))
        pause = clock.seconds(self._services)
        now = (hash((notice, pause)), hash((language, tuple(choice.id for choice in choices))))
        updates: Updates = {}
        if now[:1] != seen[:1]:
            updates |= {self._seen: now, face.banner: gr.HTML(notice, visible=bool(notice)), self._timer: gr.Timer(pause)}
        if now[1:] == seen[1:]:
            return updates or gr.skip()
        defaults = writers.defaults()
        wanted = count if counted else max(1, len(defaults))
        values = assign(choices, defaults, chosen)
        run = next((entry.run for entry in self._services.models.catalogue() if entry.run), None)
        return {
            **updates,
            self._seen: now,
            self._counted: counted,
            face.examples: gr.Dataset(samples=[[text] for text in examples(run, language)]),
            face.count: wanted,
            face.send: gr.Button(interactive=bool(choices)),
            **(self._visible(wanted) if choices else {}),
            **{column.selector: offer(choices, value) for column, value in zip(face.columns, values, strict=True)},
        }

    def _setting(self, prompt: str, values: Sequence[Any]) -> Setting:
        """What is set; a reward-model column's own n is what it chooses from."""
        setting = setting_of(prompt, *values)
        return self._each(setting, lambda own: replace(own, best_of=own.n, n=1))

    def _one_n(self, setting: Setting) -> Setting:
        """The same the other way round: a column's own settings show one n."""
        return self._each(setting, lambda own: replace(own, n=own.best_of))

    def _clamped(self, setting: Setting) -> Setting:
        """The same with replies no longer than they may be here, whatever a link asks for."""
        longest = self._services.longest
        shared, *own = (replace(one, max_tokens=min(one.max_tokens, longest)) for one in (setting.shared, *(setting.own or ())))
        return replace(setting, shared=shared, own=tuple(own) or None)

    def _each(self, setting: Setting, change: Callable[[ChatSettings], ChatSettings]) -> Setting:
        """A setting with the own settings of its reward-model columns changed."""
        if not setting.own:
            return setting
        judges = {choice.id for choice in self._services.writers.choices("en") if choice.kind == "reward"}
        models = (*setting.models, *[""] * COLUMNS)
        own = tuple(change(settings) if name in judges else settings for settings, name in zip(setting.own, models, strict=False))
        return replace(setting, own=own)

    def _visible(self, count: int) -> Updates:
        return {column.box: gr.Column(visible=place < count) for place, column in enumerate(self._face.columns)}

    def _conversations(self, request: gr.Request) -> Updates:
        view, face = self._view(request), self._face
        busy, some = view.board.busy, bool(self._services.writers.choices(view.language))
        updates: Updates = {face.send: gr.Button(visible=not busy, interactive=some), face.stop: gr.Button(visible=busy)}
        for place, column in enumerate(face.columns):
            updates[column.chat] = view.column(place)
            updates[column.stop] = gr.Button(visible=view.board.at_work(place))
        return updates

    def _board(self, request: gr.Request) -> Board:
        return self._services.boards.of(visitor.session(request))

    def _view(self, request: gr.Request) -> View:
        return View.of(self._board(request), self._services.writers, visitor.language(request))

    def _notice(self, language: Language, anything: bool) -> str:
        trainer = self._services.trainer
        watch = self._services.watches.of(trainer.run.name if trainer.run else None)
        if watch:
            watch.poll()
        pace = note(language, self._services.longest, self._services.models) if Host.here().cpu_space else ""
        return fragments.banner(language, watch, trainer, anything) + pace
