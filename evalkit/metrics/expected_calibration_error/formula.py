"""How far confidence and accuracy are apart."""

from __future__ import annotations

import math
from collections.abc import Sequence


def expected_calibration_error(confidences: Sequence[float], correct: Sequence[float], bins: int = 15) -> float:
    """Σ over the bins of (answers in the bin / all) · |accuracy − mean confidence| (Guo et al. 2017, eq. 3), in 0…1.

    :param confidences: the probability of each answer given, in 0…1; bin *m* holds those in ((m−1)/bins, m/bins].
    :param correct: 1 for a right answer, 0 for a wrong one.
    """
    gaps = [0.0] * bins
    for confidence, right in zip(confidences, correct, strict=True):
        gaps[max(1, math.ceil(confidence * bins)) - 1] += right - confidence
    return sum(map(abs, gaps)) / len(confidences)
