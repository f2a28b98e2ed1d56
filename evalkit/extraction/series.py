"""The answers to several questions that one prompt asked: a cloze test, a text with its questions, seven sentences for five gaps."""

from __future__ import annotations

import re

from evalkit.extraction.plain import plain

_JOIN = r"[ \t]*[,、;/]?[ \t]*"


def stated_series(reply: str, letters: str, n: int) -> list[str | None]:
    """The *n* letters (among *letters*) that a reply states, in the questions' order.

    Numbered answers count first ("36. C", "(2) B", "1-5 CFAED"), whatever the first number is; then one 【答案】 for each question;
    then exactly *n* letters after the last "answers:" or 答案; then exactly *n* letters in the whole reply.

    :returns: ``None`` for a question without an answer, and for all of them when letters and questions can't be matched.
    """
    text = plain(reply)
    if numbered := _numbered(text, letters):
        first = min(numbered)
        if len(numbered) == n == max(numbered) - first + 1:
            return [numbered[first + part] for part in range(n)]
        if set(numbered) <= set(range(1, n + 1)):
            return [numbered.get(part) for part in range(1, n + 1)]
    run = f"[{letters}](?:{_JOIN}[{letters}])*(?![A-Za-z])"
    answers = re.findall(rf"【答案】\s*:?\s*({run})", text)
    cued = re.findall(rf"(?:答案】?|(?i:\banswers?\b))\s*(?:are|is|是|为|依次|分别|[:\s])*({run})", text)
    alone = re.findall(rf"(?<![A-Za-z])[{letters}]+(?![A-Za-z'’]|(?<=A) [a-z])", text)
    for candidate in ("".join(answers), cued[-1] if cued else "", "".join(alone)):
        found = [letter for letter in candidate if letter in letters]
        if len(found) == n:
            return list(found)
    return [None] * n


def _numbered(text: str, letters: str) -> dict[int, str]:
    """Number → letter, the last said of each."""
    found: dict[int, str] = {}
    number, verb = r"\(?(?<!\d)(\d{1,3})\)?\s*(?:小?题)?\s*[.、:]?\s*", r"(?:答案)?(?:选择?|应?为|是|is|:|\s)*"
    one = rf"{number}{verb}\(?([{letters}])(?![A-Za-z'’]|(?<=A) [a-z])"
    for match in re.finditer(one, text):
        found[int(match[1])] = match[2]
    span = rf"(?<!\d)(\d{{1,3}})\s*[-–—~至到]\s*(\d{{1,3}})\s*题?\s*[.、:]?\s*([{letters}](?:{_JOIN}[{letters}])*)(?![A-Za-z])"
    for match in re.finditer(span, text):
        said = [letter for letter in match[3] if letter in letters]
        first, last = int(match[1]), int(match[2])
        if last - first + 1 == len(said):
            found |= dict(zip(range(first, last + 1), said, strict=True))
    return found
