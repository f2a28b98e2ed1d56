"""Gradio's Blocks, on which an output that stays as it is costs next to nothing."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.blocks import convert_component_dict_to_list

if TYPE_CHECKING:
    from gradio.block_function import BlockFunction
    from gradio.state_holder import SessionState


class ThriftyBlocks(gr.Blocks):
    """Blocks that answer for skipped outputs by themselves.

    Gradio builds a new component, and describes all of it, for each output of each event, even for those that a handler skips. A page
    that asks every few seconds what is new, and whose replies stream, skips nearly all of them: with fifty visitors that took half of the
    time for which page and models share the interpreter.
    """

    async def postprocess_data(self, block_fn: BlockFunction, predictions: Any, state: SessionState | None) -> list[Any]:
        """What the outputs have become, as the browser takes it."""
        outputs = block_fn.outputs
        if _skipped(predictions):
            predictions = [predictions] * len(outputs)
        else:
            if isinstance(predictions, dict):
                predictions = convert_component_dict_to_list(list(outputs), predictions)
            if len(outputs) == 1:
                predictions = [predictions]
        if not isinstance(predictions, (list, tuple)) or len(predictions) != len(outputs):
            return await super().postprocess_data(block_fn, predictions, state)
        told = [gr.skip() for _ in outputs]
        changed = [place for place, output in enumerate(outputs) if output.stateful or not _skipped(predictions[place])]
        if changed:
            few, values = copy(block_fn), [predictions[place] for place in changed]
            few.outputs = [outputs[place] for place in changed]
            found = await super().postprocess_data(few, values if len(values) > 1 else values[0], state)
            for place, value in zip(changed, found, strict=True):
                told[place] = value
        return told


def _skipped(value: Any) -> bool:
    return isinstance(value, dict) and value == gr.skip()
