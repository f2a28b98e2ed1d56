"""Letter probabilities: which of " A", " B", … does the model expect right after the question?"""

from __future__ import annotations

from evalkit.aggregate import share_right
from evalkit.bench import Bench
from evalkit.fitting import Ask, drop_last, drop_longest, shots_used
from evalkit.types import LETTERS, ChoiceTask, Measured, Sample
from modelkit.scoring.strings import passes, string_logprobs


def measure(task: ChoiceTask, bench: Bench) -> Measured:
    """Score every question by the natural-log probability of each letter over the full vocabulary; the highest is the answer.

    The letters' tokens are those that the tokenizer gives them behind the prompt, with the protocol's lead (in a chat: with
    what the template writes before a reply). A letter that takes several tokens has the product of their probabilities.

    :raises UserError: when a letter has no tokens of its own behind the prompt.
    """
    protocol, encoder = task.protocol, bench.encoder()
    asks = [
        Ask(protocol.headline(item.subject), tuple(map(protocol.shot, task.dev.get(item.subject, ())[: task.shots])), protocol.block(item))
        for item in task.items
    ]
    letters = LETTERS[: max(len(item.options) for item in task.items)]
    tokens = encoder.answer_tokens(asks[0].prompt(0), protocol.letter_lead, list(letters))
    limit = min(protocol.limit, (bench.context or protocol.limit) - max(map(len, tokens)) + 1)
    fit = drop_longest if protocol.drop == "longest" else drop_last
    fitted = fit(encoder, asks, limit, bench.watch(f"{task.name} · prompts", len(asks)))

    asked = [i for i, one in enumerate(fitted) if one.reason is None]
    watch = bench.watch(f"{task.name} · letters", len(asked))
    scores = string_logprobs(bench.model, [fitted[i].ids for i in asked], tokens, on_progress=watch).tolist()
    bench.tokens_computed += sum(len(fitted[i].ids) + len(group[-1]) for i in asked for group in passes(tokens))
    by_item = dict(zip(asked, scores, strict=True))

    samples = []
    for i, (item, one) in enumerate(zip(task.items, fitted, strict=True)):
        sample = Sample(item, "letters", gold=item.gold, prompt=one.text, reason=one.reason)
        if one.reason is None:
            own = dict(zip(letters[: len(item.options)], by_item[i], strict=False))
            sample.answer(own, one.shots)
        samples.append(sample)
    return Measured(
        share_right(samples, "accuracy", protocol.official, shots_used=shots_used(fitted)),
        samples,
        {
            "letter_tokens": dict(zip(letters, tokens, strict=True)),
            "bos": encoder.bos,
            "limit": limit,
            "headers_dropped": sum(not one.header for one in fitted),
        },
    )
