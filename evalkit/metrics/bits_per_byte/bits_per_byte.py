"""How well texts are predicted, in bits per UTF-8 byte, which compares models with different tokenizers."""

import datasets
import evaluate

from .formula import bits_per_byte

_INPUTS = """
Args:
    predictions: each text's natural-log probability, summed over its tokens.
    references: the texts.
Returns:
    bits_per_byte: lower is better; 8 is no better than random bytes.
"""


class BitsPerByte(evaluate.Metric):
    """See ``formula.py`` beside this file, which needs nothing but Python."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=__doc__ or "",
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": datasets.Value("float64"), "references": datasets.Value("string")}),
        )

    def _compute(self, predictions, references):
        return {"bits_per_byte": bits_per_byte(predictions, references)}
