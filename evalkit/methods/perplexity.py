"""Per-choice perplexity: which option's own text does the model find likeliest after the question?

Longer texts are less likely, so the log-probability of an option is taken per token; the sum itself and the sum per byte come
out of the same pass and are reported beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from evalkit.aggregate import Average, several_right, share_right, shots_used
from evalkit.bench import Bench
from evalkit.fitting import Ask, drop_last, longest
from evalkit.methods import Record
from evalkit.methods.letters import why_not
from evalkit.models.face import Reading
from evalkit.types import LETTERS, ChoiceTask, Question, Sample
from modelkit.records import MethodScore

LEAD = " "


def block(question: Question) -> str:
    """The question without its options, behind its passage where there is one."""
    passage = f"{question.passage}\n" if question.passage else ""
    return f"{passage}Question: {question.text}\nAnswer:"


def shot(question: Question) -> str:
    """The question as an example, with the text of the right option (of several: of all of them)."""
    right = [question.options[LETTERS.index(letter)] for letter in question.gold] if question.options else [question.gold]
    return f"{block(question)}{LEAD}{', '.join(right)}\n\n"


def measure(task: ChoiceTask, items: Sequence[Question], bench: Bench, record: Record) -> dict[str, Any]:
    """Score each option by the mean natural-log probability of its tokens after the question; the highest is the answer.

    The scored tokens are those by which prompt and option together differ from the prompt alone. Shots are dropped from the
    last until prompt and longest option fit.
    """
    face, encoder = bench.face, bench.face.encoder
    limit = longest(task.protocol.limit, face.context)
    options = list({option for item in items for option in item.options})
    length = dict(zip(options, encoder.lengths([LEAD + option for option in options]), strict=True))
    asks = [
        Ask(
            "",
            tuple(map(shot, task.dev.get(item.subject, ())[: task.shots])),
            block(item),
            max((length[option] for option in item.options), default=0),
        )
        for item in items
    ]
    fitted = drop_last(encoder, asks, limit)

    samples = [
        Sample(item, "perplexity", gold=item.gold, prompt=one.text, reason=item.fault or why_not(item, one))
        for item, one in zip(items, fitted, strict=True)
    ]
    record([sample for sample in samples if sample.reason is not None])
    pairs = [(i, option) for i, item in enumerate(items) if samples[i].reason is None for option in item.options]
    readings: dict[int, dict[int, Reading]] = {}

    def settle(batch: list[int], found: list[Reading]) -> None:
        for k, reading in zip(batch, found, strict=True):
            readings.setdefault(pairs[k][0], {})[k] = reading
        whole = [i for i in {pairs[k][0] for k in batch} if len(readings[i]) == len(items[i].options)]
        for i in whole:
            _answer(samples[i], [reading for _, reading in sorted(readings.pop(i).items())], fitted[i].shots)
        record([samples[i] for i in whole])

    wanted = record.wanted([items[i] for i, _ in pairs])
    face.continuation_logprobs([fitted[i] for i, _ in pairs], LEAD, [option for _, option in pairs], settle, wanted)
    return {"bos": encoder.bos}


def score(task: ChoiceTask, samples: Sequence[Sample]) -> MethodScore:
    """Accuracy, the accuracies that the other normalisations would have had, and with how many shots the questions were asked."""
    official = task.protocol.official
    return share_right(
        samples,
        "accuracy",
        official,
        shots_used=shots_used(samples),
        normalisations={name: _accuracy(samples, name, official) for name in ("per_token", "raw", "per_byte")},
        **several_right(samples),
    )


def _accuracy(samples: Sequence[Sample], normalisation: str, official: Average) -> float | None:
    """What the score would be if the option with the highest value of this *normalisation* were the answer."""
    answers = []
    for sample in samples:
        if sample.correct is not None and sample.scores:
            scores = sample.extra.get(normalisation, sample.scores)
            prediction = max(scores, key=scores.__getitem__)
            answers.append(replace(sample, prediction=prediction, correct=prediction == sample.gold))
    return share_right(answers, "accuracy", official).value if answers else None


def _answer(sample: Sample, readings: Sequence[Reading], shots: int) -> None:
    """Settle a question by the readings of its options, in their order."""
    question = sample.item
    assert isinstance(question, Question)
    sample.reason = next((reading.reason for reading in readings if reading.reason is not None), None)
    if sample.reason is None:
        sums = [sum(reading.logprobs) for reading in readings]
        per_token = (total / len(reading.logprobs) for total, reading in zip(sums, readings, strict=True))
        per_byte = (total / max(1, len(option.encode())) for total, option in zip(sums, question.options, strict=True))
        sample.answer(dict(zip(LETTERS, per_token, strict=False)), shots)
        sample.extra = {"raw": dict(zip(LETTERS, sums, strict=False)), "per_byte": dict(zip(LETTERS, per_byte, strict=False))}
