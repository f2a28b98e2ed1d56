"""Predicting texts: bits per byte, which does not depend on the tokenizer, and perplexity, which does."""

from __future__ import annotations

import math
from collections.abc import Sequence

from evalkit.bench import Bench
from evalkit.statistics import ratio_interval
from evalkit.types import Measured, Sample, TextTask
from modelkit.errors import UserError
from modelkit.records import MethodScore
from modelkit.scoring.logprobs import continuation_logprobs


def windows(length: int, context: int) -> list[tuple[int, int, int]]:
    """(start, first, end) of the windows over a sequence: tokens ``first…end`` are scored after ``start…first``.

    Every token but the first is scored once. After the first window each has half a context of tokens before it.
    """
    stride = max(1, context // 2)
    found = [(0, 1, min(length, context))] if length > 1 else []
    while found and found[-1][2] < length:
        first = found[-1][2]
        end = min(length, first + stride)
        found.append((max(0, end - context), first, end))
    return found


def measure(task: TextTask, bench: Bench) -> Measured:
    """Bits per UTF-8 byte over all texts, each read after the beginning-of-sequence token (or, lacking one, the end's).

    :raises UserError: when the tokenizer has neither.
    """
    tokenizer = bench.tokenizer
    first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if first is None:
        raise UserError(f"the tokenizer of {bench.checkpoint} has no beginning-of-sequence token to predict a text's first token from.")
    texts = [item.text for item in task.items]
    sequences = [
        [first, *ids] for ids in tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
    ]
    spans = [(i, *span) for i, ids in enumerate(sequences) for span in windows(len(ids), bench.context or len(ids))]
    logprobs = continuation_logprobs(
        bench.model,
        [sequences[i][start:middle] for i, start, middle, _ in spans],
        [sequences[i][middle:end] for i, _, middle, end in spans],
        on_progress=bench.watch(f"{task.name} · text", len(spans)),
    )
    bench.tokens_computed += sum(end - start for _, start, _, end in spans)
    nats = [0.0] * len(sequences)
    for (i, *_), values in zip(spans, logprobs, strict=True):
        nats[i] -= float(values.double().sum())

    samples = []
    for item, ids, surprise in zip(task.items, sequences, nats, strict=True):
        size = len(item.text.encode())
        extra = {"bits_per_byte": surprise / math.log(2) / size, "tokens": len(ids) - 1, "bytes": size}
        if math.isnan(surprise):
            samples.append(Sample(item, "text", reason="the model gave no number (NaN): use --dtype fp32"))
        else:
            samples.append(Sample(item, "text", extra=extra))
    return Measured(_score(samples), samples)


def _score(samples: Sequence[Sample]) -> MethodScore:
    scored = [sample.extra for sample in samples if sample.reason is None]
    if not scored:
        return MethodScore(metric="bits_per_byte", value=None, n=len(samples), unscored=len(samples))
    bits, sizes = [extra["bits_per_byte"] * extra["bytes"] for extra in scored], [extra["bytes"] for extra in scored]
    return MethodScore(
        metric="bits_per_byte",
        value=sum(bits) / sum(sizes),
        n=len(samples),
        unscored=len(samples) - len(scored),
        ci95=ratio_interval(bits, sizes),
        perplexity=math.exp(sum(bits) * math.log(2) / sum(extra["tokens"] for extra in scored)),
    )
