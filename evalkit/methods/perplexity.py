"""Per-choice perplexity: which option's own text does the model find likeliest after the question, per token?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from evalkit.aggregate import share_right, shots_used
from evalkit.bench import Bench
from evalkit.fitting import Ask, drop_last, longest
from evalkit.methods import Record
from evalkit.types import LETTERS, ChoiceTask, Question, Sample
from modelkit.records import MethodScore

if TYPE_CHECKING:
    import torch

LEAD = " "


def block(question: Question) -> str:
    """The question without its options."""
    return f"Question: {question.text}\nAnswer:"


def shot(question: Question) -> str:
    """The question as an example, with the text of the right option."""
    return f"{block(question)}{LEAD}{question.options[LETTERS.index(question.gold)]}\n\n"


def measure(task: ChoiceTask, items: Sequence[Question], bench: Bench, record: Record) -> dict[str, Any]:
    """Score each option by the mean natural-log probability of its tokens after the question; the highest is the answer.

    The scored tokens are those by which prompt and option together differ from the prompt alone. Shots are dropped from the
    last until prompt and longest option fit.
    """
    encoder = bench.encoder()
    limit = longest(task.protocol.limit, bench.model.context)
    options = list({option for item in items for option in item.options})
    length = dict(zip(options, encoder.lengths([LEAD + option for option in options]), strict=True))
    asks = [
        Ask("", tuple(map(shot, task.dev.get(item.subject, ())[: task.shots])), block(item), max(length[option] for option in item.options))
        for item in items
    ]
    fitted = drop_last(encoder, asks, limit)

    pairs = [(i, option) for i, item in enumerate(items) if fitted[i].reason is None for option in item.options]
    wholes = encoder.encode_answered([fitted[i].said for i, _ in pairs], LEAD, [option for _, option in pairs])
    starts = [_common(fitted[i].ids, whole) for (i, _), whole in zip(pairs, wholes, strict=True)]
    empty = {i for (i, _), whole, start in zip(pairs, wholes, starts, strict=True) if start == len(whole) or start == 0}
    kept = [k for k, (i, _) in enumerate(pairs) if i not in empty]

    samples = [
        Sample(item, "perplexity", gold=item.gold, prompt=one.text, reason="an option has no tokens" if i in empty else one.reason)
        for i, (item, one) in enumerate(zip(items, fitted, strict=True))
    ]
    record([sample for sample in samples if sample.reason is not None])
    means: dict[int, dict[int, float]] = {}

    def settle(batch: list[int], found: list[torch.Tensor]) -> None:
        for k, values in zip(batch, found, strict=True):
            means.setdefault(pairs[kept[k]][0], {})[kept[k]] = float(values.mean())
        whole = [i for i in {pairs[kept[k]][0] for k in batch} if len(means[i]) == len(items[i].options)]
        for i in whole:
            own = means.pop(i)
            samples[i].answer(dict(zip(LETTERS, (own[k] for k in sorted(own)), strict=False)), fitted[i].shots)
        record([samples[i] for i in whole])

    bench.model.continuation_logprobs(
        [wholes[k][: starts[k]] for k in kept],
        [wholes[k][starts[k] :] for k in kept],
        settle,
        record.wanted([items[pairs[k][0]] for k in kept]),
    )
    return {"bos": encoder.bos}


def score(task: ChoiceTask, samples: Sequence[Sample]) -> MethodScore:
    """Accuracy, and with how many shots the questions were asked."""
    return share_right(samples, "accuracy", task.protocol.official, shots_used=shots_used(samples))


def _common(prompt: list[int], whole: list[int]) -> int:
    """Length of the common beginning; at least one token is needed to predict from."""
    length = 0
    for left, right in zip(prompt, whole, strict=False):
        if left != right:
            break
        length += 1
    return length
