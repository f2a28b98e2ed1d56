"""Clicks on things inside messages and other HTML, as events: whatever is marked ``data-pg-<name>="<value>"`` tells its value."""

from __future__ import annotations

import gradio as gr

_LISTEN = """
document.addEventListener("click", (event) => {
  const marked = event.target.closest("[data-pg-NAME]");
  if (marked) trigger("click", { told: marked.getAttribute("data-pg-NAME") });
});
"""


def signal(name: str) -> gr.HTML:
    """A component that nobody sees; its ``click`` event has the value as ``told``, which a visitor may have made up."""
    return gr.HTML(visible="hidden", js_on_load=_LISTEN.replace("NAME", name))
