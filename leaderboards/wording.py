"""Texts in both languages of the site."""

from __future__ import annotations

from typing import NamedTuple


class Both(NamedTuple):
    """A text in English and in simplified Chinese."""

    en: str
    zh: str

    def of(self, language: str) -> str:
        """The text in *language*; anything but zh is English."""
        return self.zh if language == "zh" else self.en


def same(text: str) -> Both:
    """A text that is the same in both: a name, a figure."""
    return Both(text, text)
