"""A task's questions → the prompts that are asked: the protocol's parts, as many shots as fit, in the questions' order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from evalkit.encoding import PromptEncoder
from evalkit.fitting import Ask, Fitted, fit, within
from evalkit.types import ChoiceTask, Question


def prompts(task: ChoiceTask, items: Sequence[Question], method: str, encoder: PromptEncoder, limit: int) -> list[Fitted]:
    """The prompts of *items*, none longer than *limit* tokens; what can't be made so, or has a fault, has a reason instead."""
    fitted = fit(task.protocol.drop, encoder, asks(task, items, method, encoder), limit)
    return [replace(one, reason=item.fault) if item.fault else one for item, one in zip(items, fitted, strict=True)]


def asks(task: ChoiceTask, items: Sequence[Question], method: str, encoder: PromptEncoder) -> list[Ask]:
    """The parts of the prompts of *items*."""
    places: dict[str, list[int]] = {}
    for place, item in enumerate(items):
        places.setdefault(item.subject, []).append(place)
    made: dict[int, Ask] = {}
    for subject, own in places.items():
        shots = task.dev.get(subject, [])[: task.shots]
        if task.protocol.shots_limit is not None:
            texts = [task.protocol.shot(shot, number) for number, shot in enumerate(shots, start=1)]
            shots = shots[: within(encoder, task.protocol.headline(subject), texts, task.protocol.shots_limit)]
        made |= zip(own, task.protocol.asks(subject, shots, [items[place] for place in own], method), strict=True)
    return [made[place] for place in range(len(items))]
