r"""Whether two mathematical answers are the same: by the normal form that MATH and AGIEval compare, or by value."""

from __future__ import annotations

import cmath
import re
import unicodedata

from evalkit.math_expression import NotAFormula, value

_POINTS = range(3)
_WRITTEN_NUMBER = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_UNIT = re.compile(
    r"(?:\\(?:text|mathrm|mbox)\s*\{[^{}]*\}|\s(?:mm|cm|dm|m|km|g|kg|s|min|h|ml|l|hours?|minutes?|seconds?|degrees?|dollars?|units?|ways?))"
    r"(?:\^\{?[23]\}?)?$",
    re.IGNORECASE,
)


def same_normal_form(answer: str, reference: str) -> bool:
    """Equality by the rules of the MATH benchmark (Hendrycks et al. 2021), which AGIEval's cloze questions are scored with.

    Strict: ``0.5`` is ``\\frac{1}{2}``, but ``0.25`` is not ``\\frac{1}{4}``.
    """
    return normal_form(answer) == normal_form(reference)


def normal_form(answer: str) -> str:
    r"""The spelling that answers are compared in: no blanks, units, degrees, per cent, dollars or ``\left``; ``\frac12``, ``1/2``
    and ``.5`` written out; of ``x = 5`` the right side."""
    text = answer.replace("\n", "").replace("\\!", "").replace("\\\\", "\\")
    text = re.sub(r"\\[td]frac", r"\\frac", text)
    text = re.sub(r"\\left|\\right|\^\\circ|\^\{\\circ\}|\\\$|\\%|%", "", text)
    text = text.split(r"\text{ ", 1)[0]
    text = re.sub(r"(^|[ {])\.(?=\d)", r"\g<1>0.", text)
    left, equals, right = text.partition("=")
    if equals and "=" not in right and len(left) <= 2:
        text = right
    text = re.sub(r"\\sqrt\s*([^{\s\[])", r"\\sqrt{\1}", text).replace(" ", "")
    text = re.sub(r"\\frac([^{])([^{])", r"\\frac{\1}{\2}", text)
    text = re.sub(r"\\frac([^{])(?=\{)", r"\\frac{\1}", text)
    text = r"\frac{1}{2}" if text == "0.5" else text
    return re.sub(r"^(-?\d+)/(-?\d+)$", r"\\frac{\1}{\2}", text)


def equal_answers(answer: str, reference: str) -> bool:
    """Equality by value: of numbers, formulas, equations, points, intervals and their unions, sets, and lists of these.

    What is no formula is compared as text. Decimals must be exact: 0.33 is not 1/3. A unit, a percent or a degree sign and the
    ``x =`` of an answer don't matter.
    """
    if same_normal_form(answer, reference):
        return True
    left, right = _parts(_tidy(answer)), _parts(_tidy(reference))
    return len(left) == len(right) and all(map(_equal_parts, left, right))


def _equal_parts(left: str, right: str) -> bool:
    if left == right or same_normal_form(left, right):
        return True
    if "=" in left and "=" in right:
        return _same_equation(left, right)
    left, right = _right_side(left), _right_side(right)
    if r"\cup" in left + right:
        pieces = [part.split(r"\cup") for part in (left, right)]
        return len(pieces[0]) == len(pieces[1]) and all(map(_equal_parts, *pieces))
    if _is_set(left) and _is_set(right):
        return _same_set(_parts(left[2:-2]), _parts(right[2:-2]))
    if len(within := _parts(left[1:-1])) > 1 and left[:1] in "([":
        others = _parts(right[1:-1])
        brackets = left[0] == right[:1] and left[-1] == right[-1:]
        return brackets and len(within) == len(others) and all(map(_equal_parts, within, others))
    return _same_value(left, right)


def _same_value(left: str, right: str) -> bool:
    try:
        return all(_close(value(left, point), value(right, point)) for point in _POINTS)
    except NotAFormula:
        return False


def _same_equation(left: str, right: str) -> bool:
    """Whether the differences of both sides are the same but for a constant factor: 2x + y + 1 = 0 is y = -2x - 1."""
    try:
        ratios = []
        for point in _POINTS:
            differences = [value(a, point) - value(b, point) for a, _, b in (side.partition("=") for side in (left, right))]
            ratios.append(differences[0] / differences[1])
    except (NotAFormula, ZeroDivisionError):
        return False
    return ratios[0] != 0 and all(_close(ratio, ratios[0]) for ratio in ratios)


def _close(left: complex, right: complex) -> bool:
    return left == right or (cmath.isfinite(left) and cmath.isclose(left, right, rel_tol=1e-9))


def _same_set(left: list[str], right: list[str]) -> bool:
    rest = list(right)
    for one in left:
        match = next((other for other in rest if _equal_parts(one, other)), None)
        if match is None:
            return False
        rest.remove(match)
    return not rest


def _is_set(text: str) -> bool:
    return text.startswith(r"\{") and text.endswith(r"\}")


def _right_side(text: str) -> str:
    """Without ``x =`` or ``x \\in`` in front."""
    return re.sub(r"^\\?[A-Za-z]\w?(?:_\{?\w\}?)?(?:\([a-z]\))?\s*(?:=|\\in\b|∈)", "", text).strip()


def _tidy(answer: str) -> str:
    """One spelling for what means the same: no dollars, blanks made by LaTeX, thousands' commas, units or end stops."""
    text = unicodedata.normalize("NFKC", re.sub(r"[①-⑳]", lambda ring: rf"\textcircled{{{ord(ring[0]) - 0x245F}}}", answer))
    text = re.sub(r"\\left|\\right|\\displaystyle|\\[,;! ]|\$|~", "", text).replace(r"\%", "%")
    text = re.sub(r"\s*\{\s*", "{", re.sub(r"\s+\}", "}", text))
    text = re.sub(r"\\[td]frac", r"\\frac", text)
    text = re.sub(r"\\(?:mathrm|rm)\{([A-Za-z])\}", r"\1", text)
    text = re.sub(r"\^\s*\{?\\circ\}?|°|%", "", text)
    text = text.replace("∞", r"\infty").replace("∪", r"\cup").replace("≥", r"\ge").replace("≤", r"\le")
    text = re.sub(r"\\(ge|le)(?:qslant|q)\b", r"\\\1", text)
    text = _WRITTEN_NUMBER.sub("", text.strip().rstrip(".。;,"))
    return _UNIT.sub("", re.sub(r"(?<=[\d})])\s*[\u4e00-\u9fff]{1,3}$", "", text)).strip()


def _parts(text: str) -> list[str]:
    """The parts of a list: split at semicolons, else at commas, "and" or 和 outside brackets."""
    parts, depth, start = [], 0, 0
    separators = ";" if ";" in text else ",、"
    text = re.sub(r"\s+and\s+|\s*和\s*|\s+or\s+|\s*或\s*", separators[0], text)
    for place, sign in enumerate(text):
        depth += (sign in "([{") - (sign in ")]}")
        if sign in separators and depth <= 0:
            parts.append(text[start:place].strip())
            start = place + 1
    return [*parts, text[start:].strip()]
