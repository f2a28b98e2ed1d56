"""Per-choice perplexity: which option's own text does the model find likeliest after the question, per token?"""

from __future__ import annotations

from evalkit.aggregate import share_right
from evalkit.bench import Bench
from evalkit.fitting import Ask, drop_last, shots_used
from evalkit.types import LETTERS, ChoiceTask, Measured, Question, Sample
from modelkit.scoring.logprobs import continuation_logprobs

LEAD = " "


def block(question: Question) -> str:
    """The question without its options."""
    return f"Question: {question.text}\nAnswer:"


def shot(question: Question) -> str:
    """The question as an example, with the text of the right option."""
    return f"{block(question)}{LEAD}{question.options[LETTERS.index(question.gold)]}\n\n"


def measure(task: ChoiceTask, bench: Bench) -> Measured:
    """Score each option by the mean natural-log probability of its tokens after the question; the highest is the answer.

    The scored tokens are those by which prompt and option together differ from the prompt alone. Shots are dropped from the
    last until prompt and longest option fit.
    """
    encoder = bench.encoder()
    limit = min(task.protocol.limit, bench.context or task.protocol.limit)
    options = list({option for item in task.items for option in item.options})
    length = dict(zip(options, encoder.lengths([LEAD + option for option in options]), strict=True))
    asks = [
        Ask("", tuple(map(shot, task.dev.get(item.subject, ())[: task.shots])), block(item), max(length[option] for option in item.options))
        for item in task.items
    ]
    fitted = drop_last(encoder, asks, limit, bench.watch(f"{task.name} · prompts", len(asks)))

    pairs = [(i, option) for i, item in enumerate(task.items) if fitted[i].reason is None for option in item.options]
    wholes = encoder.encode_answered([fitted[i].text for i, _ in pairs], LEAD, [option for _, option in pairs])
    starts = [_common(fitted[i].ids, whole) for (i, _), whole in zip(pairs, wholes, strict=True)]
    empty = {i for (i, _), whole, start in zip(pairs, wholes, starts, strict=True) if start == len(whole) or start == 0}
    kept = [k for k, (i, _) in enumerate(pairs) if i not in empty]
    logprobs = continuation_logprobs(
        bench.model,
        [wholes[k][: starts[k]] for k in kept],
        [wholes[k][starts[k] :] for k in kept],
        on_progress=bench.watch(f"{task.name} · perplexity", len(kept)),
    )
    bench.tokens_computed += sum(len(wholes[k]) for k in kept)
    means: dict[int, list[float]] = {}
    for k, values in zip(kept, logprobs, strict=True):
        means.setdefault(pairs[k][0], []).append(float(values.mean()))

    samples = []
    for i, (item, one) in enumerate(zip(task.items, fitted, strict=True)):
        sample = Sample(item, "perplexity", gold=item.gold, prompt=one.text, reason="an option has no tokens" if i in empty else one.reason)
        if sample.reason is None:
            sample.answer(dict(zip(LETTERS, means[i], strict=False)), one.shots)
        samples.append(sample)
    return Measured(
        share_right(samples, "accuracy", task.protocol.official, shots_used=shots_used(fitted)),
        samples,
        {"bos": encoder.bos},
    )


def _common(prompt: list[int], whole: list[int]) -> int:
    """Length of the common beginning; at least one token is needed to predict from."""
    length = 0
    for left, right in zip(prompt, whole, strict=False):
        if left != right:
            break
        length += 1
    return length
