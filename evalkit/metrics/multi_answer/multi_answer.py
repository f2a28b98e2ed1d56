"""Questions with several right options: sets of letters that are met exactly, and partial credit for parts of them."""

import datasets
import evaluate

from .formula import multi_answer

_INPUTS = """
Args:
    predictions: the letters answered, in any order ("BA"); "" for none.
    references: the right letters.
Returns:
    exact_match: share of equal sets; partial_credit: mean of answered / right where no answered letter is wrong.
"""


class MultiAnswer(evaluate.Metric):
    """See ``formula.py`` beside this file, which needs nothing but Python."""

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=__doc__ or "",
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(self, predictions, references):
        return multi_answer(predictions, references)
