"""The robust reading of letters: which option, or options, does a reply state as its answer?

A reply may state an answer in several ways. The plainest way counts ("the answer is B", "故选B", a line that is nothing but a
letter), and among equally plain ones the last. Denied ("not A", "不选A"), supposed ("if the answer is A"), asked ("A?") and
undecided letters ("A or B") state nothing. What states nothing is unparsed, which is not the same as wrong.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from evalkit.extraction.phrases import ANSWER_IS, DENIED_AFTER, DENIED_BEFORE, LETTERS, phrases
from evalkit.extraction.plain import plain
from evalkit.extraction.texts import occurring

_CLAUSE_END = re.compile(r"[.。,;:!?\n]")
_LABEL = re.compile(rf"^(?:\([{LETTERS}]\)|[{LETTERS}][.、:)]) ?")
_WORDY = re.compile(r"[\u4e00-\u9fff]{2}|[^\W\d_]{4}")


class _Statement(NamedTuple):
    """Where in the text which letters are stated."""

    end: int
    letters: str


def stated_letter(reply: str, options: Sequence[str]) -> str | None:
    """The one letter that *reply* states as its answer to a question with options A, B, …

    An option repeated word for word counts as its letter, as long as it is the only option repeated.

    :returns: ``None`` when the reply states no letter, or several at once.
    """
    letters = _stated(plain(reply), options, several=False)
    return letters if len(letters) == 1 else None


def stated_letters(reply: str, options: Sequence[str]) -> str | None:
    """The letters that *reply* states as its answer to a question with several right options, in alphabetical order.

    Without an outright statement, all options count that the reply calls right one by one ("A is correct. B is wrong. …"), or that
    it repeats.
    """
    return _stated(plain(reply), options, several=True) or None


def _stated(text: str, options: Sequence[str], several: bool) -> str:
    if whole := _whole(text, options):
        return whole
    known = phrases(len(options))
    labels = set(known.label.findall(text))
    opening = [known.opening] if len(labels) < 2 else []
    if said := _statements((*known.said, *opening), text, known.goes_on) + _texts_said(text, options):
        return max(said).letters
    if judged := _statements(known.judged, text, known.goes_on):
        return _sorted("".join(one.letters for one in judged)) if several else max(judged).letters
    if several and 1 < len(labels) < len(options):
        return _sorted("".join(labels))
    if hinted := _statements(known.hinted, text, known.goes_on_alone):
        return max(hinted).letters
    return _repeated(text, options)


def _statements(patterns: Sequence[re.Pattern[str]], text: str, goes_on: re.Pattern[str]) -> list[_Statement]:
    """What *patterns* find and the words around it leave standing."""
    found = []
    for pattern in patterns:
        for match in pattern.finditer(text):
            group = match.lastgroup or ""
            after = text[match.end(group) : match.end(group) + 60]
            if not (_denied(text, match.start()) or DENIED_AFTER.match(after) or goes_on.match(after)):
                letters = re.sub("(?i:and)", "", match[group]).upper()
                found.append(_Statement(match.end(group), _sorted(letter for letter in letters if letter in LETTERS)))
    return found


def _texts_said(text: str, options: Sequence[str]) -> list[_Statement]:
    """Options whose text, instead of their letter, follows "the answer is"."""
    found = []
    by_text = _by_text(options)
    for cue in ANSWER_IS.finditer(text):
        rest = text[cue.end() : cue.end() + 300].split("\n", 1)[0]
        first = [option for option in by_text if re.match(rf"\W*{re.escape(option)}(?!\w)", rest, re.IGNORECASE)]
        named = {max(first, key=len)} if first else occurring(rest, by_text)
        if len(named) == 1 and not _denied(text, cue.start()) and not re.match(r"\s*(?:not|never|不)", rest):
            found.append(_Statement(cue.end(), by_text[named.pop()]))
    return found


def _repeated(text: str, options: Sequence[str]) -> str:
    """The options whose text occurs in the reply, if not all of them do. Short ones ("5") must be all that a line says."""
    by_text = _by_text(options)
    lines = {line.strip(" .。,;!()\"'") for line in text.split("\n")}
    found = {option for option in occurring(text, by_text) if option in lines or _WORDY.search(option)}
    standing = [option for option in found if not _denied(text, text.casefold().find(option.casefold()))]
    return _sorted(by_text[option] for option in standing) if len(found) < len(options) else ""


def _whole(text: str, options: Sequence[str]) -> str:
    """The letter of the one option that is all the reply says, whatever letters and formulas stand in it."""
    found = [letter for option, letter in _by_text(options).items() if option.strip(" .") == text.strip(" .")]
    return found[0] if len(found) == 1 else ""


def _by_text(options: Sequence[str]) -> dict[str, str]:
    """Option text (without a label such as "(A)") → letter; no texts that several options share, and none that are mere letters."""
    texts = [_LABEL.sub("", plain(option)) for option in options]
    counts = Counter(texts)
    return {text: letter for text, letter in zip(texts, LETTERS, strict=False) if text and text not in LETTERS and counts[text] == 1}


def _denied(text: str, start: int) -> bool:
    """Whether the clause that runs up to *start* turns what follows into its opposite, or into a supposition."""
    return DENIED_BEFORE.search(_CLAUSE_END.split(text[max(0, start - 80) : start])[-1]) is not None


def _sorted(letters: Iterable[str]) -> str:
    return "".join(sorted(set(letters)))
