"""The benchmarks' own ladders: typed from their scripts' rules, with their traps, and with the faults that are mended."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.extraction import LADDERS, is_right, read
from evalkit.types import Question


def question(kind: str = "single", letters: str = "ABCD", part: int = 0, parts: int = 1, gold: str = "A") -> Question:
    options = tuple(f"选{letter.lower()}" for letter in letters)
    return Question("s/0", "s", (), "问题", options, gold, kind, part=part, parts=parts)  # type: ignore[arg-type]


ONE = [
    ("helm", "AB", None),
    ("helm", " B", "B"),
    ("helm", " B.", None),
    ("helm", "The answer is B", None),
    ("agieval-zero-shot", "(B)", "B"),
    ("agieval-zero-shot", "After thinking, B", "A"),
    ("agieval-zero-shot", "none", None),
    ("agieval-few-shot", "The answer is therefore C", "C"),
    ("agieval-few-shot", "答案是 B", "B"),
    ("agieval-few-shot", "D is it", "D"),
    ("agieval-few-shot-cot", "Because A is warm.\nThe answer is therefore C\n\n", "C"),
    ("agieval-few-shot-cot", "The answer is C\nBut let us see", "C"),
    ("agieval-few-shot-cot", "By Bernoulli, A\nThe answer is D", "D"),
    ("cmmlu", "B。", "B"),
    ("cmmlu", "A错误，B正确", "A"),
    ("cmmlu", "本题A错误，B正确", "B"),
    ("cmmlu", "答案是：C", "C"),
    ("cmmlu", "故选择：D", "D"),
    ("cmmlu", "只有D", "D"),
    ("cmmlu", "因此A和B", None),
    ("cmmlu", "", None),
    ("ceval-cot", " 因为…\n所以答案是C。", "C"),
    ("ceval-cot", "A\n所以答案是C。\n\n题目\n答案：让我们一步一步思考，\n1. 答案是D", "C"),
    ("ceval-cot", " 选b", "B"),
    ("ceval-cot", "还没想完", None),
    ("ceval-zero-shot", "D", "D"),
    ("ceval-zero-shot", "答案：C", "C"),
    ("ceval-zero-shot", "选项B", "B"),
    ("ceval-zero-shot", "没有", None),
    ("gaokao", "【解析】A项… <eoe>\n【答案】 D <eoa>", "D"),
    ("gaokao", "我选B，不选C", "C"),
    ("gaokao", "【答案】: B <eoa> 参考:选项A不对", "B"),
    ("gaokao", "【答案】B 参考：选项A不对", "B"),
    ("gaokao", "", None),
]

SEVERAL = [
    ("gaokao", "【答案】 AB <eoa> 因为选项C和D…", "AB"),
    ("gaokao", "【解析】…<eoe>【答案】BA<eoa>", "AB"),
    ("gaokao", "所以应该选择的是 A和C", "AC"),
    ("agieval-zero-shot", "A, C and D", "ACD"),
    ("agieval-zero-shot", "AB，因为 F=ma", "ABF"),
    ("agieval-few-shot-cot", "C 项错误\n答案是 AB", "AB"),
    ("agieval-few-shot", "(B)(C)", "BC"),
    ("agieval-few-shot", "无", None),
]

SERIES = [
    ("【答案】: C <eoa>\n【答案】: A <eoa>\n【答案】: D <eoa>", "CAD"),
    ("【答案】CAD<eoa>", "CAD"),
    ("CAD", "CAD"),
    ("A, B", [None, None, None]),
]

MATHS = [
    ("agieval-zero-shot", r"so \boxed{x=5}.", "5"),
    ("agieval-zero-shot", "thus $y=3$", "3"),
    ("agieval-zero-shot", "x = 5.", "5"),
    ("agieval-zero-shot", "5 pears and 7 apples", "7"),
    ("agieval-zero-shot", "nothing", None),
    ("agieval-few-shot", r"The answer is therefore $\frac12$", r"$\frac12$"),
    ("agieval-few-shot", "答案是5", "5"),
]


@pytest.mark.parametrize(("ladder", "reply", "letter"), ONE)
def test_one_letter(ladder: str, reply: str, letter: str | None) -> None:
    assert read(ladder, reply, question()) == letter


@pytest.mark.parametrize(("ladder", "reply", "letters"), SEVERAL)
def test_several_letters(ladder: str, reply: str, letters: str | None) -> None:
    assert read(ladder, reply, question("multiple")) == letters


@pytest.mark.parametrize(("reply", "answers"), SERIES)
def test_gaokaos_parts(reply: str, answers: str | list[str | None]) -> None:
    assert [read("gaokao", reply, question(part=part, parts=3)) for part in range(3)] == list(answers)


@pytest.mark.parametrize(("ladder", "reply", "answer"), MATHS)
def test_agievals_mathematics(ladder: str, reply: str, answer: str | None) -> None:
    assert read(ladder, reply, question("cloze", "")) == answer


def test_seven_sentences_for_five_gaps() -> None:
    asked = [question(letters="ABCDEFG", part=part, parts=5) for part in range(5)]
    assert [read("gaokao", "【答案】: CFAED <eoa>", one) for one in asked] == list("CFAED")
    assert [read("gaokao", "The answers: C F A E D", one) for one in asked] == list("CFAED")
    assert [read("robust", "36-40 CFAED", one) for one in asked] == list("CFAED")


def test_sets_are_right_in_any_order_and_nothing_is_never_right() -> None:
    assert is_right("robust", question("multiple", gold="AB"), "BA")
    assert not is_right("robust", question("multiple", gold="AB"), "A")
    assert not is_right("robust", question(gold="A"), None)
    assert is_right("agieval-zero-shot", question("cloze", "", gold="$5$"), "5")
    assert is_right("agieval-few-shot", question("cloze", "", gold="$5$;$10$"), "$5$;$10$")


@settings(max_examples=200, deadline=None)
@given(
    st.text(max_size=120)
    | st.lists(st.sampled_from([*"ABCDG=$\\{}。：\n1.", "答案", "【答案】", "是", "正确", "boxed", "answer is "])).map("".join),
    st.sampled_from(LADDERS),
    st.sampled_from(["single", "multiple", "cloze"]),
    st.integers(1, 3),
)
def test_any_text_is_read_without_a_crash(reply: str, ladder: str, kind: str, parts: int) -> None:
    one = question(kind, "" if kind == "cloze" else "ABCD", part=parts - 1, parts=1 if kind != "single" else parts)
    if kind == "cloze" and not ladder.startswith(("robust", "agieval")):
        return
    found = read(ladder, reply, one) if one.part < one.parts else None
    assert found is None or kind == "cloze" or set(found) <= set("ABCD")
    assert isinstance(is_right(ladder, one, found), bool)
