r"""Formulas as numbers: LaTeX or plain notation → the value at given values of its letters.

Two formulas that agree at a few random points are the same formula (Schwartz 1980, for polynomials); that is how
:mod:`evalkit.math_equality` compares them, without a computer algebra system.

    sum     = [±] product (± product)*
    product = power ((· | /) power | power)*         juxtaposition multiplies
    power   = atom [^ atom] [!]
    atom    = number | letter | \frac{}{} | \sqrt[n]{} | function atom | ( sum ) | { sum } | |sum|
"""

from __future__ import annotations

import cmath
import math
import random
import re
from collections.abc import Callable

_TOKEN = re.compile(r"\d+\.?\d*|\.\d+|\\[A-Za-z]+|[A-Za-z]|[-+*/^!|(){}\[\]]")
_SPELLED = {"−": "-", "×": "*", "·": "*", "÷": "/", "π": r"\pi", "√": r"\sqrt", "±": r"\pm", "\\cdot": "*", "\\times": "*", "\\div": "/"}
_SPELLING = re.compile("|".join(re.escape(sign) + ("(?![A-Za-z])" if sign[0] == "\\" else "") for sign in _SPELLED))
_CONSTANTS: dict[str, complex] = {"\\pi": math.pi, "e": math.e, "i": 1j, "\\infty": complex(math.inf, 0)}
_FUNCTIONS: dict[str, Callable[[complex], complex]] = {
    "\\sin": cmath.sin,
    "\\cos": cmath.cos,
    "\\tan": cmath.tan,
    "\\ln": cmath.log,
    "\\lg": cmath.log10,
    "\\log": cmath.log10,
    "\\exp": cmath.exp,
}
_DEEPEST = 40


class NotAFormula(ValueError):
    """The text is none of the formulas that this grammar knows."""


def value(formula: str, point: int) -> complex:
    """The value of *formula* where its letters have the random values of *point* (letter by letter the same in every formula).

    :raises NotAFormula: when the text doesn't parse, or has no finite value there.
    """
    try:
        return _Reader(formula, point).value()
    except (OverflowError, ZeroDivisionError, ValueError) as error:
        raise NotAFormula(str(error)) from None


class _Reader:
    """A recursive descent parser that computes as it reads."""

    def __init__(self, formula: str, point: int) -> None:
        formula = _SPELLING.sub(lambda sign: _SPELLED[sign[0]], formula)
        formula = re.sub(r"\s+", " ", formula)
        self._tokens = _TOKEN.findall(formula)
        if "".join(self._tokens) != formula.replace(" ", "") or not self._tokens:
            raise NotAFormula(f"unknown signs in {formula!r}")
        self._next = 0
        self._depth = 0
        self._point = point

    def value(self) -> complex:
        result = self._sum()
        if self._next < len(self._tokens):
            raise NotAFormula(f"{self._tokens[self._next]!r} is left over")
        return result

    def _peek(self) -> str:
        return self._tokens[self._next] if self._next < len(self._tokens) else ""

    def _take(self, expected: str | None = None) -> str:
        token = self._peek()
        if not token or (expected is not None and token != expected):
            raise NotAFormula(f"{expected or 'more'!r} expected")
        self._next += 1
        return token

    def _sum(self) -> complex:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise NotAFormula("too many brackets")
        total = 0j if self._peek() in {"+", "-", "\\pm", "\\mp"} else self._product()
        while self._peek() in {"+", "-", "\\pm", "\\mp"}:
            sign = {"+": 1, "-": -1, "\\pm": self._letter("\\pm"), "\\mp": -self._letter("\\pm")}[self._take()]
            total += sign * self._product()
        self._depth -= 1
        return total

    def _product(self) -> complex:
        result = self._power()
        while (token := self._peek()) and token not in {"+", "-", "\\pm", "\\mp", ")", "}", "]", "|"}:
            if token == "/":
                self._take()
                result /= self._power()
            else:
                if token == "*":
                    self._take()
                result *= self._power()
        return result

    def _power(self) -> complex:
        if self._peek() in {"-", "+"}:
            return (-1 if self._take() == "-" else 1) * self._power()
        base = self._atom()
        if self._peek() == "^":
            self._take()
            base = base ** (-self._atom() if self._peek() == "-" and self._take() else self._atom())
        if self._peek() == "!":
            self._take()
            if base.imag or base.real != int(base.real) or not 0 <= base.real <= 170:
                raise NotAFormula("a factorial of no small natural number")
            base = complex(math.factorial(int(base.real)))
        return base

    def _atom(self) -> complex:
        token = self._take()
        if token[0].isdigit() or token[0] == ".":
            return complex(float(token))
        if token in {"(", "{", "["}:
            return self._closed({"(": ")", "{": "}", "[": "]"}[token])
        if token == "|":
            return complex(abs(self._closed("|")))
        if token == "\\frac":
            return self._argument() / self._argument()
        if token == "\\sqrt":
            degree = self._closed("]") if self._peek() == "[" and self._take() else 2
            return self._argument() ** (1 / degree)
        if token in _FUNCTIONS:
            return _FUNCTIONS[token](self._power())
        if token in _CONSTANTS:
            return _CONSTANTS[token]
        if token.isalpha() or token[0] == "\\":
            return self._letter(token)
        raise NotAFormula(f"{token!r} out of place")

    def _closed(self, end: str) -> complex:
        result = self._sum()
        self._take(end)
        return result

    def _argument(self) -> complex:
        r"""What ``\frac`` or ``\sqrt`` takes: a group, or a single digit (``\frac12``)."""
        token = self._peek()
        if token[:1].isdigit() and len(token) > 1:
            self._tokens[self._next] = token[1:]
            return complex(int(token[0]))
        return self._atom()

    def _letter(self, name: str) -> complex:
        return complex(random.Random(f"{name} {self._point}").uniform(0.5, 2))
