"""What a free reply says: the answers, texts or language that can be read out of it.

A protocol names its ladder (``Protocol.extraction``): ``robust``, evalkit's own, or a benchmark's – ``helm``, ``ceval-cot``,
``ceval-zero-shot``, ``cmmlu``, ``agieval-zero-shot``, ``agieval-few-shot``,
``agieval-few-shot-cot``, ``gaokao``.
"""

from evalkit.extraction.ladders import LADDERS, is_right, read
from evalkit.extraction.texts import named, occurring, same_language

__all__ = ["LADDERS", "is_right", "named", "occurring", "read", "same_language"]
