"""Questions with several right options: whole sets, and parts of them."""

from __future__ import annotations

from collections.abc import Sequence


def multi_answer(predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """How many sets of letters are met exactly, and how much of them is met without a mistake.

    :param predictions: the letters answered, in any order ("BA"); "" for none.
    :param references: the right letters.
    :returns: ``exact_match``, the share of equal sets; ``partial_credit``, the mean of |answered| / |right| where every answered
        letter is right, else 0; both in 0…1.
    """
    pairs = [(set(prediction), set(reference)) for prediction, reference in zip(predictions, references, strict=True)]
    return {
        "exact_match": sum(answered == right for answered, right in pairs) / len(pairs),
        "partial_credit": sum(len(answered) / len(right) for answered, right in pairs if answered <= right) / len(pairs),
    }
