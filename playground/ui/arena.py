"""The arena tab: a prompt, two replies side by side whose writers nobody knows, a vote, then who it was and what the reward model says."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from modelkit.errors import UserError
from playground import fragments
from playground.arena import reveal
from playground.arena.battle import Winner
from playground.arena.visits import Arena, Ballot
from playground.chat.reply_card import Neighbour, reply_card
from playground.settings import MAX_PROMPT_CHARACTERS
from playground.texts import LANGUAGES, Language
from playground.ui import visitor
from playground.ui.chat_face import LATEX
from playground.ui.head import in_every_language

if TYPE_CHECKING:
    from playground.ui.app import Services

VISITORS_PER_SIDE = 64
"""How many visitors' replies may be under way on one side; their models' batches take them together."""
WINNERS: tuple[Winner, ...] = ("a", "b", "tie", "both_bad")

_log = logging.getLogger(__name__)
Updates = dict[Any, Any]


@dataclass
class Panel:
    """One side: its letter or name, its reply, and, once it is revealed, the reply's card."""

    heading: gr.HTML
    reply: gr.Markdown
    card: gr.HTML


@dataclass
class Face:
    """The components that events read or change."""

    typed: gr.Textbox
    ask: gr.Button
    queue: gr.Dropdown
    next: gr.Button
    question: gr.HTML
    panels: list[Panel]
    votes: dict[Winner, gr.Button]
    outcome: gr.HTML


def build(page: gr.Blocks, services: Services, i18n: gr.I18n) -> None:
    """Lay out the tab and wire it; without a store there is none."""
    if services.store is None:
        return
    with gr.Tab(i18n("tab.arena"), id="arena"):
        face = _lay_out(i18n)
        asked = gr.State(0)
    on = _Events(services, services.store, face, asked)
    quick: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "undocumented"}
    changed = [asked, face.typed, face.question, face.outcome, face.next, *face.votes.values()]
    changed += [part for panel in face.panels for part in (panel.heading, panel.reply, panel.card)]
    begin: dict[str, Any] = {**quick, "queue": True, "concurrency_limit": None}  # only a queued event tells that a state has changed
    face.next.click(on.next, [face.queue, asked], changed, api_name="arena_next", **begin)
    gr.on([face.typed.submit, face.ask.click], on.ask, [face.typed, asked], changed, api_name="arena_ask", **begin)
    for side, panel in enumerate(face.panels):
        event = asked.change(
            on.answer(side),
            None,
            panel.reply,
            concurrency_id=f"arena-{side}",
            concurrency_limit=VISITORS_PER_SIDE,
            trigger_mode="multiple",
            show_progress="hidden",
            api_name=f"arena_{'ab'[side]}",
            api_visibility="undocumented",
        )
        event.then(on.settle, None, changed, api_name=f"arena_settled_{'ab'[side]}", **quick)
    for winner, button in face.votes.items():
        button.click(on.vote(winner), None, changed, api_name=f"arena_vote_{winner}", **quick)
    page.unload(on.leave)


def _lay_out(i18n: gr.I18n) -> Face:
    gr.Markdown(i18n("arena.intro"), elem_classes="pg-note")
    with gr.Row(elem_id="pg-arena-prompt"):
        typed = gr.Textbox(
            label=i18n("arena.typed"),
            placeholder=i18n("arena.typed.placeholder"),
            show_label=False,
            container=False,
            lines=1,
            max_lines=6,
            max_length=MAX_PROMPT_CHARACTERS,
            scale=8,
            elem_id="pg-arena-typed",
        )
        ask = gr.Button(i18n("arena.ask"), scale=0, elem_id="pg-arena-ask")
        choices = [(i18n("arena.queue.both"), ""), *((i18n(f"arena.queue.{name}"), name) for name in LANGUAGES)]
        queue = gr.Dropdown(
            choices,
            value="",
            label=i18n("arena.queue"),
            show_label=False,
            container=False,
            scale=0,
            elem_id="pg-arena-queue",
            filterable=False,
        )
        onward = gr.Button(i18n("arena.next"), variant="primary", scale=0, elem_id="pg-arena-next")
    question = gr.HTML(f'<p class="pg-state">{in_every_language("arena.empty")}</p>', elem_id="pg-arena-question")
    panels = []
    with gr.Row(elem_id="pg-arena"):
        for side in "ab":
            with gr.Column(min_width=0, elem_id=f"pg-arena-{side}"):
                heading = gr.HTML(reveal.heading(None, "ab".index(side)))
                reply = gr.Markdown(sanitize_html=True, latex_delimiters=LATEX, elem_classes="pg-arena-reply")
                panels.append(Panel(heading, reply, gr.HTML()))
    with gr.Row(elem_id="pg-votes"):
        votes = {
            winner: gr.Button(i18n(f"arena.vote.{winner}"), interactive=False, elem_id=f"pg-vote-{winner.replace('_', '-')}")
            for winner in WINNERS
        }
    outcome = gr.HTML(elem_id="pg-arena-outcome")
    gr.Markdown(i18n("arena.consent"), elem_classes="pg-consent")
    return Face(typed, ask, queue, onward, question, panels, votes, outcome)


class _Events:
    """The tab's handlers. A visitor's battle lives in their arena; ``asked`` counts battles, and its change lets both sides answer."""

    def __init__(self, services: Services, ballot: Ballot, face: Face, asked: gr.State) -> None:
        self._services, self._ballot, self._face, self._asked = services, ballot, face, asked

    def next(self, language: str | None, asked: int, request: gr.Request) -> Updates:
        """Take the next prompt from the queue, in the language chosen."""
        chosen: Language | None = next((name for name in LANGUAGES if name == language), None)
        with visitor.told():
            visitor.admit(self._services.admission, request)
            self._arena(request).begin(self._services.models, language=chosen)
        return {**self._shown(request), self._asked: asked + 1}

    def ask(self, typed: str, asked: int, request: gr.Request) -> Updates:
        """Put what the visitor has typed to two checkpoints."""
        with visitor.told():
            visitor.admit(self._services.admission, request, typed)
            self._arena(request).begin(self._services.models, typed or "")
        return {**self._shown(request), self._asked: asked + 1, self._face.typed: ""}

    def answer(self, side: int) -> Callable[..., Iterator[str]]:
        """The handler that lets one side answer, if it has been asked."""

        def answer(request: gr.Request) -> Iterator[str]:
            arena, language = self._arena(request), visitor.language(request)
            battle = None
            try:
                for battle in arena.answer(side, self._services.writers.write):
                    yield fragments.reply_text(language, battle.replies[side])
            except Exception:
                sentence = visitor.failed(language)
                if battle:
                    arena.fail(battle.id, side, sentence)

        return answer

    def settle(self, request: gr.Request) -> Updates:
        """A side has finished; after the second one it can be voted."""
        return self._shown(request)

    def vote(self, winner: Winner) -> Callable[[gr.Request], Updates]:
        """The handler of one of the four votes. What is shown afterwards is on the disk by then."""

        def vote(request: gr.Request) -> Updates:
            with visitor.told():
                self._arena(request).choose(winner, self._services.models, self._ballot)
            return self._shown(request)

        return vote

    def leave(self, request: gr.Request) -> None:
        """The visitor has closed the page."""
        self._services.arenas.leave(request.session_hash or "")

    def _shown(self, request: gr.Request) -> Updates:
        """The whole tab as it is now. What would tell the two apart is in it only after the vote."""
        arena, language = self._arena(request), visitor.language(request)
        battle = arena.battle
        if battle is None:
            return {}
        face = self._face
        updates: Updates = {face.question: reveal.question(battle)}
        updates |= {button: gr.Button(interactive=winner in battle.votes) for winner, button in face.votes.items()}
        for side, panel in enumerate(face.panels):
            updates[panel.reply] = fragments.reply_text(language, battle.replies[side])
        if battle.phase != "revealed" or arena.vote is None:
            updates |= {panel.heading: reveal.heading(battle, side) for side, panel in enumerate(face.panels)}
            updates |= {panel.card: "" for panel in face.panels}
            return updates | {face.outcome: reveal.state(language, battle)}
        titles = [self._title(reply.checkpoint, language) for reply in battle.replies]
        first = Neighbour(battle.replies[0], titles[0])
        for side, panel in enumerate(face.panels):
            updates[panel.heading] = reveal.heading(battle, side, titles[side])
            updates[panel.card] = reply_card(language, battle.replies[side], first if side else None)
        return updates | {face.outcome: self._outcome(language, arena)}

    def _outcome(self, language: Language, arena: Arena) -> str:
        vote = arena.vote
        assert vote is not None
        try:
            everybody = self._ballot.tally(vote.reward_model) if vote.reward_model else None
        except UserError as error:
            _log.warning("the votes could not be counted: %s", error)
            everybody = None
        return reveal.outcome(language, vote, arena.tally, everybody)

    def _title(self, checkpoint: str, language: Language) -> str:
        choice = self._services.writers.choice(checkpoint, language)
        return choice.title if choice else checkpoint

    def _arena(self, request: gr.Request) -> Arena:
        return self._services.arenas.of(visitor.session(request))
