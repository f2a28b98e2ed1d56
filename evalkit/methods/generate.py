"""Free replies: does the answer that can be read out of a greedy reply match the gold?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from evalkit.aggregate import lost, several_right, share_right, shots_used
from evalkit.bench import Bench
from evalkit.extraction import is_right, read
from evalkit.fitting import Fitted, longest
from evalkit.methods import Record
from evalkit.models.face import Face, Reply
from evalkit.prompts import prompts
from evalkit.thinking import think_and_answer
from evalkit.types import ChoiceTask, Question, Sample
from modelkit.generation.sampling import Sampling
from modelkit.records import MethodScore

_ROOM = 4  # the part of a short context that is kept for a reply


def measure(task: ChoiceTask, items: Sequence[Question], bench: Bench, record: Record) -> dict[str, Any]:
    """Write one reply to each prompt, or thoughts and then the answer, and read the answer out of it by the protocol's ladder.

    Questions with the same prompt, as the parts of a GAOKAO question have, share one reply. A prompt leaves room for
    ``max_tokens`` of reply, or for a quarter of the context where that is less.
    """
    face, protocol = bench.face, task.protocol
    limit = longest(protocol.limit, face.context, _room(task, face))
    fitted = prompts(task, items, "generate", face.encoder, limit)
    samples = [
        Sample(item, "generate", gold=item.gold, prompt=one.text, reason=one.reason, extra=one.losses)
        for item, one in zip(items, fitted, strict=True)
    ]
    record([sample for sample in samples if sample.reason is not None])
    sharing: dict[str, list[int]] = {}
    for i, one in enumerate(fitted):
        if one.reason is None:
            sharing.setdefault(one.text, []).append(i)
    groups = list(sharing.values())

    def settle(batch: list[int], replies: list[Reply]) -> None:
        for k, reply in zip(batch, replies, strict=True):
            for i in groups[k]:
                _answer(task, samples[i], fitted[i], reply)
        record([samples[i] for k in batch for i in groups[k]])

    left = record.wanted(items)
    wanted = {k for k, group in enumerate(groups) if not left.isdisjoint(group)}
    asked = [fitted[group[0]] for group in groups]
    settings = Sampling(max_tokens=protocol.max_tokens, temperature=protocol.temperature, seed=bench.seed)
    if protocol.answer_tokens:
        conclusions = [protocol.conclusion(items[group[0]]) for group in groups]
        thoughts, answer = (replace(settings, max_tokens=_share(most, face)) for most in (protocol.max_tokens, protocol.answer_tokens))
        think_and_answer(face, asked, conclusions, (thoughts, answer), protocol.stop, settle, wanted)
    else:
        face.complete(asked, settings, protocol.stop, settle, wanted)
    return {
        "bos": face.encoder.bos,
        "limit": limit,
        "generation": {
            "extraction": protocol.extraction,
            "max_tokens": protocol.max_tokens,
            "answer_tokens": protocol.answer_tokens,
            "temperature": protocol.temperature,
            "stop": list(protocol.stop),
        },
    }


def score(task: ChoiceTask, samples: Sequence[Sample]) -> MethodScore:
    """Exact match. An unparsed reply earns nothing, but is counted apart from the wrong ones; so are replies cut off by their length."""
    replied = [sample.extra for sample in samples if sample.reason is None]
    return share_right(
        samples,
        "exact_match",
        task.protocol.official,
        shots_used=shots_used(samples),
        unparsed=sum(sample.prediction is None for sample in samples if sample.reason is None),
        cut_off=sum(extra["finish"] == "length" for extra in replied),
        reply_tokens=sum(extra["tokens"] for extra in replied) / len(replied) if replied else None,
        **lost(samples),
        **several_right(samples),
    )


def _answer(task: ChoiceTask, sample: Sample, prompt: Fitted, reply: Reply) -> None:
    """Settle a question by the reply to its prompt."""
    question, protocol = sample.item, task.protocol
    assert isinstance(question, Question)
    sample.reason = reply.reason
    if reply.reason is not None:
        return
    sample.shots_used = prompt.shots
    sample.prediction = read(protocol.extraction, reply.text, question, protocol.symbols)
    sample.correct = is_right(protocol.extraction, question, sample.prediction) if question.gold else None
    sample.extra |= {"reply": reply.text, "finish": reply.finish, "tokens": reply.tokens}
    if reply.thoughts:
        sample.extra["thoughts"] = reply.thoughts


def _room(task: ChoiceTask, face: Face) -> int:
    """Tokens that a prompt leaves for what comes behind it."""
    room = _share(task.protocol.max_tokens, face)
    if task.protocol.answer_tokens:
        room += _share(task.protocol.answer_tokens, face)
        room += max(face.encoder.lengths(sorted({f"\n{task.protocol.conclusion(item)}" for item in task.items})), default=0)
    return room


def _share(tokens: int, face: Face) -> int:
    """Tokens of a reply: those asked for, or a quarter of a context that is too short for them."""
    return min(tokens, face.context // _ROOM) if face.context else tokens
