"""The chat tab: one message, up to four checkpoints answering side by side, each in an event of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr

from playground.chat.settings import PRESETS
from playground.ui import clock
from playground.ui.chat_events import Events
from playground.ui.chat_face import lay_out
from playground.ui.sharing import Sharing

if TYPE_CHECKING:
    from playground.ui.app import Services

VISITORS_PER_COLUMN = 64
"""How many visitors' replies may be under way in one column; their models' batches take them together."""

_ARRIVE = """() => {
  let key = "";
  try {
    key = sessionStorage.getItem("pg-tab") || "";
    if (!key) {
      key = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
      sessionStorage.setItem("pg-tab", key);
    }
  } catch { /* a browser that keeps nothing: the chat lasts as long as the page */ }
  return JSON.stringify({ key, query: location.search });
}"""
_SHOW_LINK = """(query) => {
  history.replaceState(null, "", query);
  const address = location.origin + location.pathname + query;
  navigator.clipboard?.writeText(address).catch(() => {});
  return address;
}"""
_SAVE = """(text) => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
  link.download = "NAME";
  link.click();
  URL.revokeObjectURL(link.href);
}"""


def build(page: gr.Blocks, services: Services, i18n: gr.I18n) -> None:
    """Lay out the tab and wire it."""
    with gr.Tab(i18n("tab.chat"), id="chat"):
        face = lay_out(i18n, services.longest)
        arrival, parcel = gr.Textbox(visible=False), gr.Textbox(visible=False)
        sharing = Sharing(services, services.store, i18n) if services.store else None
        asked, counted, seen = gr.State(0), gr.State(False), gr.State(())
        timer = gr.Timer(clock.OFTEN_SECONDS)
    on = Events(services, face, asked, counted, seen, timer)
    quick: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "undocumented"}
    start: dict[str, Any] = {**quick, "queue": True, "concurrency_limit": None}  # only a queued event tells that a state has changed
    conversations = [*face.chats, face.send, face.stop, *(column.stop for column in face.columns)]
    begun = [asked, face.prompt, *conversations]

    gr.on([face.prompt.submit, face.send.click], on.begin, [face.prompt, asked, *face.inputs], begun, api_name="begin", **start)
    face.examples.click(on.begin_with, [face.examples, asked, *face.inputs], begun, **start)
    face.again.click(on.again, [asked, *face.inputs], begun, api_name="again", **start)
    for place, column in enumerate(face.columns):
        column.chat.retry(on.again_in(place), [asked, *face.inputs], begun, **start)
        column.chat.edit(on.edit(place), [asked, *face.inputs], begun, **start)
        column.stop.click(on.stop(place), None, None, **quick)
        column.selector.change(on.choose(place), column.selector, column.chat, **quick)
    writing: list[Any] = []
    settled: list[Any] = []
    for place, column in enumerate(face.columns):
        event = asked.change(
            on.answer(place),
            None,
            [column.chat, column.stop],
            concurrency_id=f"column-{place + 1}",
            concurrency_limit=VISITORS_PER_COLUMN,
            trigger_mode="multiple",
            show_progress="hidden",
            api_name=f"column_{place + 1}",
            api_visibility="undocumented",
        )
        settled.append(event.then(on.settle, None, conversations, **quick))
        writing.append(event)
    if sharing:
        sharing.wire(settled)
    face.stop.click(on.stop(), None, None, api_name="stop", **quick)
    face.undo.click(on.undo, None, begun, cancels=writing, api_name="undo", **quick)
    face.clear.click(on.clear, None, begun, cancels=writing, api_name="clear", **quick)
    face.pick.click(on.pick, None, face.chats, **quick)

    face.count.input(on.show_columns, face.count, [counted, *(column.box for column in face.columns)], **quick)
    folders = [part for column in face.columns for part in (column.folder, *column.own)]
    face.apart.input(on.show_own, [face.apart, *face.inputs], folders, **quick)
    for name, button in face.presets.items():
        button.click(lambda name=name: list(PRESETS[name]), None, face.shared[:2], **quick)
    face.make_link.click(on.link, [face.prompt, *face.inputs], face.link, **quick).success(None, face.link, face.link, js=_SHOW_LINK)
    for kind, button in face.exports.items():
        saved = button.click(on.export(kind), None, parcel, api_name=f"export_{kind}", **quick)
        saved.success(None, parcel, None, js=_SAVE.replace("NAME", f"rlhf-playground.{kind}"))

    live: dict[str, Any] = {"api_visibility": "undocumented", "show_progress": "hidden", "concurrency_limit": None}
    everything = [timer, seen, counted, face.banner, face.count, face.examples, *begun, *face.inputs[1:]]
    everything += [part for column in face.columns for part in (column.box, column.folder)]
    page.load(on.arrive, arrival, everything, js=_ARRIVE, api_name="arrive", **live)
    timer.tick(on.refresh, [seen, counted, *face.inputs[:5]], everything, api_name="refresh", **live)
    page.unload(on.leave)
