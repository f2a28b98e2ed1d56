"""How often one side's score is higher than the other's; a tie counts half."""

import datasets
import evaluate

from .formula import win_rate

_INPUTS = """
Args:
    predictions: one side's score in each comparison.
    references: the other side's.
Returns:
    win_rate: share in 0…1; wins, ties, losses: counts.
"""


class WinRate(evaluate.Metric):
    """See ``formula.py`` beside this file, which needs nothing but Python."""

    def _info(self) -> evaluate.MetricInfo:
        number = datasets.Value("float64")
        return evaluate.MetricInfo(
            description=__doc__ or "",
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": number, "references": number}),
        )

    def _compute(self, predictions, references):
        return win_rate(predictions, references)
