"""Letter probabilities: which of " A", " B", … does the model expect right after the question?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from evalkit.aggregate import share_right, shots_used
from evalkit.bench import Bench
from evalkit.fitting import Ask, drop_last, drop_longest
from evalkit.methods import Record
from evalkit.types import LETTERS, ChoiceTask, Question, Sample
from modelkit.records import MethodScore

if TYPE_CHECKING:
    import torch


def measure(task: ChoiceTask, items: Sequence[Question], bench: Bench, record: Record) -> dict[str, Any]:
    """Score questions by the natural-log probability of each letter over the full vocabulary; the highest is the answer.

    The letters' tokens are those that the tokenizer gives them behind the prompt, with the protocol's lead (in a chat: with
    what the template writes before a reply). A letter that takes several tokens has the product of their probabilities.

    :raises UserError: when a letter has no tokens of its own behind the prompt.
    """
    protocol, encoder = task.protocol, bench.encoder()
    letters = LETTERS[: max(len(item.options) for item in task.items)]
    tokens = encoder.answer_tokens(_ask(task, task.items[0]).prompt(0), protocol.letter_lead, list(letters))
    limit = min(protocol.limit, (bench.model.context or protocol.limit) - max(map(len, tokens)) + 1)
    fit = drop_longest if protocol.drop == "longest" else drop_last
    fitted = fit(encoder, [_ask(task, item) for item in items], limit)

    samples = [
        Sample(item, "letters", gold=item.gold, prompt=one.text, reason=one.reason, extra={} if one.header else {"header_dropped": True})
        for item, one in zip(items, fitted, strict=True)
    ]
    asked = [i for i, one in enumerate(fitted) if one.reason is None]
    record([sample for sample in samples if sample.reason is not None])

    def settle(batch: list[int], found: torch.Tensor) -> None:
        for row, k in enumerate(batch):
            own = zip(letters[: len(items[asked[k]].options)], found[row].tolist(), strict=False)
            samples[asked[k]].answer(dict(own), fitted[asked[k]].shots)
        record([samples[asked[k]] for k in batch])

    bench.model.string_logprobs([fitted[i].ids for i in asked], tokens, settle)
    return {"letter_tokens": dict(zip(letters, tokens, strict=True)), "bos": encoder.bos, "limit": limit}


def score(task: ChoiceTask, samples: Sequence[Sample]) -> MethodScore:
    """Accuracy, and with how many shots the questions were asked."""
    dropped = sum("header_dropped" in sample.extra for sample in samples)
    return share_right(samples, "accuracy", task.protocol.official, shots_used=shots_used(samples), headers_dropped=dropped)


def _ask(task: ChoiceTask, item: Question) -> Ask:
    shots = map(task.protocol.shot, task.dev.get(item.subject, ())[: task.shots])
    return Ask(task.protocol.headline(item.subject), tuple(shots), task.protocol.block(item))
