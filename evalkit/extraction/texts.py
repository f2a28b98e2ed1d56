"""What a free reply says: which of the known alternatives stand in it, and in which language it is."""

from __future__ import annotations

import re
from collections.abc import Iterable

_LATIN = "0-9A-Za-z\u00c0-\u024f"
_CJK = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_ALPHABET = re.compile(r"[A-Za-z\u00c0-\u024f]+")


def occurring(text: str, alternatives: Iterable[str]) -> set[str]:
    """The alternatives that occur in *text*, each as a whole: not as a piece of a longer word, number or alternative.

    Latin letters and digits need a word boundary; Chinese has none, so there only a longer alternative ("星期日") keeps a
    shorter one ("日") from counting. Case matters for alternatives of at most two letters ("He", "Na"), not for others.
    """
    known = {alternative for alternative in alternatives if alternative}
    spans = [(*match.span(), alternative) for alternative in known for match in _pattern(alternative).finditer(text)]
    return {
        alternative
        for start, end, alternative in spans
        if not any(left <= start and end <= right and right - left > end - start for left, right, _ in spans)
    }


def named(reply: str, question: str, alternatives: Iterable[str], reference: str) -> set[str]:
    """The alternatives a reply names, leaving out those that the question itself mentions (unless it is the reference)."""
    known = {*alternatives, reference}
    return occurring(reply, known) - (occurring(question, known) - {reference})


def same_language(prompt: str, reply: str) -> bool:
    """Whether a reply is in the prompt's language, Chinese or not; one without any letters (a number, say) is in every language."""
    shares = [_chinese_share(text) for text in (prompt, reply)]
    return None in shares or (shares[0] >= 0.5) == (shares[1] >= 0.5)  # type: ignore[operator]


def _chinese_share(text: str) -> float | None:
    """Share of Chinese characters among Chinese characters and words of Latin letters."""
    chinese, words = len(_CJK.findall(text)), len(_ALPHABET.findall(text))
    return chinese / (chinese + words) if chinese + words else None


def _pattern(alternative: str) -> re.Pattern[str]:
    before = after = ""
    if re.match(f"[{_LATIN}]", alternative[0]):
        before = f"(?<![{_LATIN}])" + (r"(?<!\d[.,])" if alternative[0].isdigit() else "")
    if re.match(f"[{_LATIN}]", alternative[-1]):
        after = f"(?![{_LATIN}])" + (r"(?![.,]\d)" if alternative[-1].isdigit() else "")
    letters = sum(character.isalpha() for character in alternative)
    return re.compile(before + re.escape(alternative) + after, re.IGNORECASE if letters > 2 else 0)
