"""Greedy chat answers: a reply is right when it names exactly one of the known alternatives, and that one is the reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from evalkit.aggregate import share_right
from evalkit.bench import Bench
from evalkit.extraction import named, same_language
from evalkit.fitting import Fitted
from evalkit.methods import Record
from evalkit.models.face import Reply
from evalkit.types import AnswerRow, AnswerTask, Sample
from modelkit.generation.sampling import Sampling
from modelkit.records import MethodScore


def measure(task: AnswerTask, items: Sequence[AnswerRow], bench: Bench, record: Record) -> dict[str, Any]:
    """Greedy replies. One that names none or several alternatives is wrong, not unscored."""
    face = bench.face
    encoded = face.encoder.encode([item.messages for item in items])
    prompts = [Fitted(item.messages, item.question, ids, 0) for item, ids in zip(items, encoded, strict=True)]
    samples = [Sample(item, "answer", gold=item.reference, prompt=item.question) for item in items]
    asked = [i for i, prompt in enumerate(prompts) if face.context is None or len(prompt.ids) < face.context]
    for i in set(range(len(items))) - set(asked):
        samples[i].reason = f"the prompt leaves no room for a reply in the context of {face.context} tokens"
    record([sample for sample in samples if sample.reason is not None])

    def settle(batch: list[int], replies: list[Reply]) -> None:
        for k, reply in zip(batch, replies, strict=True):
            _read(samples[asked[k]], items[asked[k]], reply)
        record([samples[asked[k]] for k in batch])

    sampling = Sampling(max_tokens=task.max_tokens, temperature=0, seed=bench.seed)
    face.complete([prompts[i] for i in asked], sampling, (), settle, record.wanted([items[i] for i in asked]))
    return {}


def score(task: AnswerTask, samples: Sequence[Sample]) -> MethodScore:
    """Exact match, and what the replies are like: share in the prompt's language, mean length, how many went wrong in their form."""
    replies = [sample.extra for sample in samples if sample.extra]
    if not replies:
        return share_right(samples, "exact_match", "micro")
    return share_right(
        samples,
        "exact_match",
        "micro",
        language_match=sum(reply["same_language"] for reply in replies) / len(replies),
        length=sum(reply["tokens"] for reply in replies) / len(replies),
        cut_off=sum(reply["finish"] == "length" for reply in replies),
        no_alternative=sum(not reply["named"] for reply in replies),
        several_alternatives=sum(len(reply["named"]) > 1 for reply in replies),
    )


def _read(sample: Sample, item: AnswerRow, reply: Reply) -> None:
    sample.reason = reply.reason
    if reply.reason is not None:
        return
    text = reply.text.strip()
    found = named(text, item.question, item.alternatives, item.reference)
    sample.prediction = next(iter(found)) if len(found) == 1 else None
    sample.correct = sample.prediction == item.reference
    sample.extra = {
        "reply": text,
        "named": sorted(found),
        "finish": reply.finish,
        "tokens": reply.tokens,
        "same_language": same_language(item.question, text),
    }
