r"""The answer to a question without options: what a reply boxes, or says "the answer is" of, or ends on."""

from __future__ import annotations

import re

from evalkit.extraction.plain import spoken

_CUE = re.compile(
    r"(?:\b(?i:answers?)\b(?:\s+(?:to|for)\s[^.\n:]{0,60}?)?\s*\**\s*(?:(?:\b(?:is|are|therefore|thus|equals)\b|[:=：])\s*\**\s*)+"
    r"|(?<!不是)答案\s*】?\s*(?:应该?|应当|就)*\s*(?:[是为:：]\s*)+)"
)
_MATHS = re.compile(r"\$\$(.+?)\$\$|\$(.+?)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_NUMBER = re.compile(r"(?<![\w.,])[-−]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:/\d+)?%?(?![\w])")
_END = re.compile(r"\n|<eoa>|。|\.(?=\s|$)|[,，](?=\s*(?:[A-Za-z]{2,}|[\u4e00-\u9fff]))|(?<=\d)(?=[\u4e00-\u9fff])|\bbecause\b")


def stated_answer(reply: str) -> str | None:
    r"""The answer that *reply* states: its last ``\boxed{…}``, else what follows its last "the answer is" or "答案是", else its last
    formula or number (of ``x = 5`` the right side).

    :returns: text as the reply has it, without ``$``; ``None`` when there is nothing of the kind.
    """
    text = re.sub(r"[^\S\n]+", " ", spoken(reply))
    if (box := last_box(text)) is not None:
        return box.strip() or None
    cues = list(_CUE.finditer(text))
    if cues and (said := _after_cue(text[cues[-1].end() :])):
        return said
    if formulas := _formulas(text):
        return formulas[-1].rsplit("=", 1)[-1].strip() or None
    numbers = _NUMBER.findall(text)
    return numbers[-1] if numbers else None


def last_box(text: str) -> str | None:
    r"""The contents of the last complete ``\boxed{…}`` or ``\fbox{…}``, braces inside included."""
    opened: list[tuple[int, bool]] = []
    last = None
    for brace in re.finditer(r"\\(?:boxed|fbox) ?\{|[{}]", text):
        if brace[0] != "}":
            opened.append((brace.end(), brace[0] != "{"))
        elif opened:
            start, boxed = opened.pop()
            last = text[start : brace.start()] if boxed else last
    return last


def _after_cue(rest: str) -> str | None:
    """What is said right after the cue: several formulas when they follow one another, else plain text up to the clause's end."""
    line = rest.lstrip().split("\n", 1)[0]
    formulas = []
    while match := _MATHS.match(line):
        formulas.append(next(group for group in match.groups() if group is not None).strip())
        line = re.sub(r"\A\s*(?:[;；,，、]|and|和)\s*", "", line[match.end() :])
    return ";".join(formulas) if formulas else _END.split(line, maxsplit=1)[0].strip(" *$") or None


def _formulas(text: str) -> list[str]:
    return [next(group for group in match if group) for match in _MATHS.findall(text) if any(match)]
