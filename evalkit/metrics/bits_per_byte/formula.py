"""How well texts are predicted, in a unit that doesn't depend on the tokenizer."""

from __future__ import annotations

import math
from collections.abc import Sequence


def bits_per_byte(logprobs: Sequence[float], texts: Sequence[str]) -> float:
    """Σ −log₂ p of the texts / Σ of their UTF-8 bytes.

    :param logprobs: each text's natural-log probability, summed over its tokens.
    """
    return -sum(logprobs) / math.log(2) / sum(len(text.encode()) for text in texts)
