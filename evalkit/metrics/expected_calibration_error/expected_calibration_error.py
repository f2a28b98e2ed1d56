"""How far confidence and accuracy are apart: a model that is 70 % sure should be right in 70 of 100 cases."""

import datasets
import evaluate

from .formula import expected_calibration_error

_INPUTS = """
Args:
    predictions: the probability of each answer given, in 0…1.
    references: 1 for a right answer, 0 for a wrong one.
    bins: number of bins of equal width.
Returns:
    expected_calibration_error: in 0…1, 0 is best.
"""


class ExpectedCalibrationError(evaluate.Metric):
    """See ``formula.py`` beside this file, which needs nothing but Python."""

    def _info(self) -> evaluate.MetricInfo:
        number = datasets.Value("float64")
        return evaluate.MetricInfo(
            description=__doc__ or "",
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": number, "references": number}),
        )

    def _compute(self, predictions, references, bins=15):
        return {"expected_calibration_error": expected_calibration_error(predictions, references, bins)}
