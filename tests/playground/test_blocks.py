"""Outputs that stay as they are: the browser is told the same as by Gradio's own Blocks, and no component is made for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import gradio as gr
import pytest
from gradio.state_holder import SessionState

from playground.ui.blocks import ThriftyBlocks

Told = Callable[..., Any]


def page(kind: type[gr.Blocks], handler: Callable[[list[Any]], Any], outputs: int) -> tuple[gr.Blocks, list[Any]]:
    with kind() as blocks:
        parts = [gr.Textbox("old"), gr.Slider(0, 10, value=3), gr.State(0), gr.Dropdown(["a", "b"])][:outputs]
        gr.Button().click(lambda: handler(parts), None, parts)
    return blocks, parts


def told(kind: type[gr.Blocks], handler: Callable[[list[Any]], Any], outputs: int = 4) -> tuple[list[Any], Any]:
    """What the browser gets, and the state afterwards."""
    blocks, parts = page(kind, handler, outputs)
    state = SessionState(blocks)
    found = asyncio.run(blocks.postprocess_data(blocks.fns[0], handler(parts), state))
    return found, state[parts[2]._id] if outputs > 2 else None


HANDLERS: dict[str, Told] = {
    "some in a dictionary": lambda parts: {parts[0]: "new", parts[2]: 7},
    "nothing in a dictionary but the state": lambda parts: {parts[2]: 7},
    "a property": lambda parts: {parts[3]: gr.Dropdown(["c"], value="c"), parts[1]: gr.Slider(visible=False)},
    "some in a list": lambda parts: [gr.skip(), 5, gr.skip(), gr.skip()],
    "a state as a property": lambda parts: [gr.skip(), gr.skip(), gr.update(value=9), "b"],
    "all": lambda parts: ["new", 1, 2, "a"],
    "nothing": lambda parts: gr.skip(),
    "everything skipped": lambda parts: [gr.skip()] * 4,
}


@pytest.mark.parametrize("name", HANDLERS)
def test_the_browser_is_told_what_gradio_would_tell_it(name: str) -> None:
    assert told(ThriftyBlocks, HANDLERS[name]) == told(gr.Blocks, HANDLERS[name])


@pytest.mark.parametrize("handler", [lambda parts: gr.skip(), lambda parts: "new", lambda parts: {parts[0]: "new"}])
def test_a_single_output_is_told_the_same_way(handler: Told) -> None:
    assert told(ThriftyBlocks, handler, outputs=1) == told(gr.Blocks, handler, outputs=1)


def test_a_handler_that_returns_too_little_is_still_an_error() -> None:
    for kind in (gr.Blocks, ThriftyBlocks):
        with pytest.raises(ValueError, match="enough output values"):
            told(kind, lambda parts: ["new"])


def test_nothing_is_made_for_what_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks, parts = page(ThriftyBlocks, lambda parts: None, 4)
    state, made = SessionState(blocks), []
    monkeypatch.setattr(SessionState, "_update_config", lambda self, key: made.append(key))
    asyncio.run(blocks.postprocess_data(blocks.fns[0], {parts[1]: gr.Slider(visible=False)}, state))
    assert made == [parts[1]._id]
