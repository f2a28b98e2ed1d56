"""Where sentences end, in English and Chinese text."""

from __future__ import annotations

import re

_SENTENCE = re.compile(
    r"""\S.*?(?:
        [。！？…]+[”’」』）】)"']*      # Chinese needs no blank after a full stop
      | [.!?]+["')\]’”]*(?=\s|\Z)      # English does, which leaves 3.14 whole
      | (?=\n)
      | \Z
    )\s*""",
    re.DOTALL | re.VERBOSE,
)
_OPEN = re.compile(r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|St|vs|e\.g|i\.e)\.|(?:\A|\n)\s*\d+\.)\s*\Z")
"""Ends that end nothing: abbreviations before a name, a list's numbers."""


def sentences(text: str) -> list[str]:
    """The sentences of *text*, each with the blanks that follow it; joined they are the text without blanks around it."""
    found: list[str] = []
    for piece in _SENTENCE.findall(text.strip()):
        if found and _OPEN.search(found[-1]):
            found[-1] += piece
        else:
            found.append(piece)
    return found
