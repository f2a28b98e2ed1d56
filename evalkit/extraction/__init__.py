"""What a free reply says: the letters, answers, texts or language that can be read out of it."""

from evalkit.extraction.texts import named, occurring, same_language

__all__ = ["named", "occurring", "same_language"]
