"""Predicting texts: bits per byte, which does not depend on the tokenizer, and perplexity, which does."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from evalkit.bench import Bench
from evalkit.methods import Record
from evalkit.metrics.bits_per_byte.formula import bits_per_byte
from evalkit.statistics import ratio_interval
from evalkit.types import Sample, TextRow, TextTask
from modelkit.errors import UserError
from modelkit.records import MethodScore

if TYPE_CHECKING:
    import torch


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


def measure(task: TextTask, items: Sequence[TextRow], bench: Bench, record: Record) -> dict[str, Any]:
    """Read each text after the beginning-of-sequence token (or, lacking one, the end's), in windows where it is long.

    :raises UserError: when the tokenizer has neither.
    """
    tokenizer = bench.tokenizer
    first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if first is None:
        raise UserError(f"the tokenizer of {bench.checkpoint} has no beginning-of-sequence token to predict a text's first token from.")
    texts = [item.text for item in items]
    encoded = tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"] if texts else []
    sequences = [[first, *ids] for ids in encoded]
    spans = [(i, *span) for i, ids in enumerate(sequences) for span in windows(len(ids), bench.model.context or len(ids))]
    left = Counter(i for i, *_ in spans)
    record([Sample(items[i], "text", reason="the tokenizer makes no token of it") for i in range(len(items)) if i not in left])
    nats: dict[int, dict[int, float]] = {i: {} for i in left}

    def settle(batch: list[int], found: list[torch.Tensor]) -> None:
        for k, values in zip(batch, found, strict=True):
            nats[spans[k][0]][k] = -float(values.double().sum())
        whole = [i for i in sorted({spans[k][0] for k in batch}) if len(nats[i]) == left[i]]
        record([_sample(items[i], len(sequences[i]) - 1, sum(nats[i][k] for k in sorted(nats[i]))) for i in whole])

    bench.model.continuation_logprobs(
        [sequences[i][start:middle] for i, start, middle, _ in spans],
        [sequences[i][middle:end] for i, _, middle, end in spans],
        settle,
        record.wanted([items[i] for i, *_ in spans]),
    )
    return {}


def score(task: TextTask, samples: Sequence[Sample]) -> MethodScore:
    """Bits per UTF-8 byte over all texts, and perplexity per token."""
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


def _sample(item: TextRow, tokens: int, nats: float) -> Sample:
    if math.isnan(nats):
        return Sample(item, "text", reason="the model gave no number (NaN): use --dtype fp32")
    size = len(item.text.encode())
    return Sample(item, "text", extra={"bits_per_byte": bits_per_byte([-nats], [item.text]), "tokens": tokens, "bytes": size})
