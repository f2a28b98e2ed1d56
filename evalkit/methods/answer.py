"""Greedy chat answers: a reply is right when it names exactly one of the known alternatives, and that one is the reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from evalkit.aggregate import share_right
from evalkit.bench import Bench
from evalkit.extraction import named, same_language
from evalkit.types import AnswerTask, Measured, Sample
from modelkit.chat import encode_prompt, stop_ids
from modelkit.generation.loop import generate
from modelkit.generation.sampling import Sampling
from modelkit.generation.stream import decode


def measure(task: AnswerTask, bench: Bench) -> Measured:
    """Exact match of greedy replies. A reply that names none or several alternatives is wrong, not unscored."""
    prompts = [encode_prompt(bench.tokenizer, item.messages) for item in task.items]
    asked = [i for i, prompt in enumerate(prompts) if bench.context is None or len(prompt) < bench.context]
    completions = generate(
        bench.model,
        [prompts[i] for i in asked],
        Sampling(max_tokens=task.max_tokens, temperature=0, seed=bench.seed),
        stop_ids(bench.tokenizer, bench.model),
        on_progress=bench.watch(f"{task.name} · answers", len(asked)),
    )
    replies = dict(zip(asked, (completion for (completion,) in completions), strict=True))
    bench.tokens_computed += sum(len(prompts[i]) + len(reply.ids) for i, reply in replies.items())

    samples = []
    for i, item in enumerate(task.items):
        sample = Sample(item, "answer", gold=item.reference, prompt=item.question)
        samples.append(sample)
        if i not in replies:
            sample.reason = f"the prompt leaves no room for a reply in the context of {bench.context} tokens"
            continue
        text = decode(bench.tokenizer, replies[i].ids)
        found = named(text, item.question, item.alternatives, item.reference)
        sample.prediction = next(iter(found)) if len(found) == 1 else None
        sample.correct = sample.prediction == item.reference
        sample.extra = {
            "reply": text,
            "named": sorted(found),
            "finish": replies[i].finish,
            "tokens": len(replies[i].ids),
            "same_language": same_language(item.question, text),
        }
    return Measured(share_right(samples, "exact_match", "micro", **_summary([sample.extra for sample in samples if sample.extra])), samples)


def _summary(replies: Sequence[dict[str, Any]]) -> dict[str, float]:
    """What the replies are like: share in the prompt's language, mean length in tokens, and how many went wrong in their form."""
    if not replies:
        return {}
    return {
        "language_match": sum(reply["same_language"] for reply in replies) / len(replies),
        "length": sum(reply["tokens"] for reply in replies) / len(replies),
        "cut_off": sum(reply["finish"] == "length" for reply in replies),
        "no_alternative": sum(not reply["named"] for reply in replies),
        "several_alternatives": sum(len(reply["named"]) > 1 for reply in replies),
    }
