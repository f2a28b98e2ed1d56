"""Mathematical answers: which are read out of replies, and which are the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.extraction.mathematics import last_box, stated_answer
from evalkit.math_equality import equal_answers, normal_form, same_normal_form
from evalkit.math_expression import NotAFormula, value

SAME = [
    ("0.5", r"\frac{1}{2}"),
    ("1/4", "0.25"),
    ("3.0", "3"),
    ("1,000", "1000"),
    ("50\\%", "50"),
    (r"90^\circ", "90"),
    ("2^10", "1024"),
    ("5!", "120"),
    ("x=5", "5"),
    (r"\frac12", "0.5"),
    (r"\dfrac{2\sqrt 5}{5}", r"$\frac{2\sqrt{5}}{5}$"),
    (r"\sqrt{12}", r"$2\sqrt{3}$"),
    (r"-\frac{9}{2}", "-4.5"),
    ("2π/3", r"$\frac{2\pi}{3}$"),
    ("1-5i", r"$1-5\mathrm{i}$"),
    ("3n^2-2n", "$n(3n-2)$"),
    (r"\frac{2n}{1+n}", r"$\frac{2n}{n+1}$"),
    ("y=±√3x", r"$y=\pm\sqrt{3}x$"),
    ("y=-2x-1", "$2x+y+1=0$"),
    ("(x-1.5)^2+y^2=6.25", r"$\left(x-\frac{3}{2}\right)^{2}+y^{2}=\frac{25}{4}$"),
    ("(0, 1)", r"$\left(0,1\right)$"),
    ("[2,5)", r"\left[2,5\right)"),
    (r"(-\infty, 0) ∪ (0, 1]", r"$(-\infty,0)\cup(0,1]$"),
    (r"\{1,2\}", r"\{2, 1\}"),
    ("①③④", r"$\textcircled{1}\textcircled{3}\textcircled{4}$"),
    ("1, 8/9", r"1;$\frac{8}{9}$"),
    ("2 and 3", "2,3"),
    ("16种", "16"),
    ("5 cm", "5"),
    (r"5\text{ cm}^2", "5"),
    ("平行四边形", "平行四边形"),
]

DIFFERENT = [
    ("0.33", "1/3"),
    ("[2,5]", "[2,5)"),
    ("(1,2)", "(2,1)"),
    ("x+y", "x-y"),
    ("y=2x", "y=3x"),
    ("1;2", "1"),
    (r"\infty", r"-\infty"),
    ("", "2"),
    ("abc", "abd"),
    ("9^9^9^9", "1"),
    ("(" * 500, "1"),
    (r"\frac", "1"),
    ("1/0", "1"),
]

STATED = [
    ("The answer is $\\boxed{\\frac{1}{2}}$.", r"\frac{1}{2}"),
    ("First \\boxed{3}, no: \\boxed{4}", "4"),
    ("So x = 5. The answer is 5.", "5"),
    ("The answer is -3/4", "-3/4"),
    ("The answer is 3.14, because", "3.14"),
    ("答案是16种。", "16"),
    ("答案：$5$；$10$", "5;10"),
    ("所以答案为 $-\\frac{9}{2}$", r"-\frac{9}{2}"),
    ("【答案】: 8 <eoa>", "8"),
    ("we get $x = \\frac{3}{4}$", r"\frac{3}{4}"),
    ("There are 12 apples and 30 pears, so 42.", "42"),
    ("<think>\\boxed{3}</think>\\boxed{4}", "4"),
    ("no idea", None),
    ("\\boxed{", None),
    ("", None),
]


@pytest.mark.parametrize(("answer", "reference"), SAME)
def test_equal_answers_are_equal_both_ways(answer: str, reference: str) -> None:
    assert equal_answers(answer, reference)
    assert equal_answers(reference, answer)


@pytest.mark.parametrize(("answer", "reference"), DIFFERENT)
def test_different_answers_are_different_both_ways(answer: str, reference: str) -> None:
    assert not equal_answers(answer, reference)
    assert not equal_answers(reference, answer)


@pytest.mark.parametrize(
    ("text", "form"),
    [
        (r"\tfrac12", r"\frac{1}{2}"),
        (r"\dfrac{1}{2}", r"\frac{1}{2}"),
        (r"\frac1{72}", r"\frac{1}{72}"),
        ("3/4", r"\frac{3}{4}"),
        ("0.5", r"\frac{1}{2}"),
        (".25", "0.25"),
        (r"\sqrt3", r"\sqrt{3}"),
        (r"\left( 1, 2 \right)", "(1,2)"),
        (r"90^{\circ}", "90"),
        (r"\$5", "5"),
        (r"50\%", "50"),
        (r"12\text{ cm}", "12"),
        ("k = 7", "7"),
        ("xyz = 7", "xyz=7"),
    ],
)
def test_the_normal_form_is_that_of_math(text: str, form: str) -> None:
    assert normal_form(text) == form


def test_the_normal_form_is_stricter_than_the_value() -> None:
    assert not same_normal_form("0.25", r"\frac{1}{4}")
    assert equal_answers("0.25", r"\frac{1}{4}")


@pytest.mark.parametrize(("reply", "answer"), STATED)
def test_the_stated_answer_is_found(reply: str, answer: str | None) -> None:
    assert stated_answer(reply) == answer


def test_braces_inside_a_box_belong_to_it() -> None:
    assert last_box(r"\boxed{\{1, \frac{1}{2}\}} and \boxed{") == r"\{1, \frac{1}{2}\}"


@pytest.mark.parametrize(
    ("formula", "number"),
    [
        ("1+2*3", 7),
        ("-2^2", -4),
        ("2^{-1}", 0.5),
        ("6/2/3", 1),
        (r"\sqrt[3]{8}", 2),
        ("|−3|", 3),
        (r"2\sin \frac{\pi}{2}", 2),
        ("2(3+4)", 14),
    ],
)
def test_formulas_have_their_values(formula: str, number: float) -> None:
    assert value(formula, 0) == pytest.approx(number)


@pytest.mark.parametrize("text", ["", "1+", "(1", "1)", "#", "\\frac{1}", "200!", "两个"])
def test_what_is_no_formula_is_refused(text: str) -> None:
    with pytest.raises(NotAFormula):
        value(text, 0)


PIECES = st.lists(
    st.sampled_from([*"0123456789xy+-*/^(){}[],;=!|$%. ", "\\frac", "\\sqrt", "\\pi", "\\left", "\\cup", "\\{", "和", "种"]), max_size=25
)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60) | PIECES.map("".join), st.text(max_size=20) | PIECES.map("".join))
def test_any_two_texts_are_compared_without_a_crash(answer: str, reference: str) -> None:
    assert isinstance(equal_answers(answer, reference), bool)
    assert equal_answers(answer, answer)
    stated_answer(answer)


def test_agievals_cloze_answers_equal_themselves_in_other_dress_and_no_other(shared: Path) -> None:
    file = shared / "data" / "agieval" / "data" / "v1" / "gaokao-mathcloze.jsonl"
    answers = sorted({json.loads(line)["answer"].replace("$", "") for line in file.read_text(encoding="utf-8").splitlines()})
    for i, answer in enumerate(answers):
        assert equal_answers(answer.replace(r"\frac", r"\dfrac").replace("{", " { "), f"${answer}$")
        assert not [other for other in answers[:i] if equal_answers(answer, other)]
