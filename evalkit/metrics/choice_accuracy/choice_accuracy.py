"""Accuracy of multiple-choice answers: over questions (micro), over subjects (macro), and of each subject."""

import datasets
import evaluate

from .formula import choice_accuracy

_INPUTS = """
Args:
    predictions: the letters answered.
    references: the right letters.
    subjects: each question's subject.
Returns:
    micro, macro: shares in 0…1; subjects: subject → share.
"""


class ChoiceAccuracy(evaluate.Metric):
    """See ``formula.py`` beside this file, which needs nothing but Python."""

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=__doc__ or "",
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": text, "references": text, "subjects": text}),
        )

    def _compute(self, predictions, references, subjects):
        return choice_accuracy(predictions, references, subjects)
