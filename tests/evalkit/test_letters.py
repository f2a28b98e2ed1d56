"""The robust reading of letters, on replies as models write them, and its invariants on any text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.extraction.letters import stated_letter, stated_letters
from evalkit.extraction.series import stated_series

CITIES = ("Paris", "Rome", "Oslo", "Bern")
CELLS = ("细胞膜", "细胞核", "线粒体", "叶绿体")
NUMBERS = ("5", "12", "12.5", "120")

ENGLISH = [
    # nothing but the letter, however dressed
    ("B", "B"),
    (" B\n", "B"),
    ("B.", "B"),
    ("(B)", "B"),
    ("[B]", "B"),
    ("**B**", "B"),
    ("b", "B"),
    ("`B`", "B"),
    ("$\\textbf{(C)}$", "C"),
    ("\\boxed{\\text{D}}", "D"),
    ("Option B.", "B"),
    ("(Ｂ)", "B"),
    # the letter first, its reasons after
    ("B. Rome", "B"),
    ("B) Rome is the capital of Italy.", "B"),
    ("C\n\nOslo is the capital of Norway, and Bern that of Switzerland.", "C"),
    ("B because Rome is old. The answer A is wrong.", "B"),
    ("D, since the other three are not in Switzerland.", "D"),
    # said outright
    ("The answer is (B).", "B"),
    ("The answer is B, not A.", "B"),
    ("Answer: $B$", "B"),
    ("ANSWER: D", "D"),
    ("My answer: d", "D"),
    ("**Answer:** **(B)** Rome", "B"),
    ("## Answer\n**C) Oslo**", "C"),
    ("Answer\n\nC", "C"),
    ("I think the answer is 'C'.", "C"),
    ("The best answer is B) Rome, since Oslo is in Norway", "B"),
    ("The correct option is option (c).", "C"),
    ("The answer is a.", "A"),
    ("The answer is therefore B", "B"),
    ("Among A through D, the answer is C", "C"),
    ("The answer to the question is clearly D.", "D"),
    ("(B) is the correct answer.", "B"),
    ("A student would choose B", "B"),
    ("I would not choose A. I'd go with D.", "D"),
    ("Final Answer: The final answer is $\\boxed{C}$. I hope it is correct.", "C"),
    ("1. The capital is Rome.\n2. So the answer is B.", "B"),
    # the last one counts
    ("The answer is A. Wait, no. The answer is B.", "B"),
    ("A\n\nHmm, Paris lies in France. The correct answer is C.", "C"),
    ("Is the answer A? No, it's B.", "B"),
    ("If the answer is A, then x = 3. But x = 4, hence D.", "D"),
    ("<think>maybe A. The answer is A</think>The answer is D.", "D"),
    (" B\n\nQuestion: What next?\nA. x\nB. y\nAnswer: C", "B"),
    # by elimination and by judgment
    ("Option A is incorrect. Option B is correct.", "B"),
    ("A is wrong, B is wrong, D is wrong; therefore C.", "C"),
    ("Both A and B are wrong. The right one is C.", "C"),
    ("It can't be A, so the answer is C.", "C"),
    ("The answer is not A. The answer is D.", "D"),
    ("It is B not A.", "B"),
    ("After thinking, B", "B"),
    ("Probably B. The others make no sense.", "B"),
    # the option's text instead of its letter
    ("Rome", "B"),
    ("The correct answer is Rome.", "B"),
    ("The answer is Oslo, because Paris is in France.", "C"),
    ("We have A > B, so Oslo.", "C"),
    ("A. Paris is wrong.\nB. Rome is the capital of Italy.\nAnswer: B", "B"),
    # no answer
    ("", None),
    ("I don't know.", None),
    ("After thinking about it, I am not sure.", None),
    ("A good question.", None),
    ("answer is a matter of taste", None),
    ("Let me consider option A first", None),
    ("I'm torn between A and B.", None),
    ("The answer is A or B.", None),
    ("Choose one of A, B, C or D.", None),
    ("The answer is neither A nor B.", None),
    ("None of the options.", None),
    ("It is not Paris.", None),
    ("A = 5 and B = 6, so the total is 11", None),
    ("The patient lacks vitamin C.", None),
    ("Hepatitis B is caused by a virus.", None),
    ("A. Paris\nB. Rome\nC. Oslo\nD. Bern", None),
    ("Paris, Rome, Oslo and Bern are capitals.", None),
    ("<think>The answer is A", None),
]

CHINESE = [
    ("（Ｂ）", "B"),
    ("B、因为细胞核", "B"),
    ("答案是B", "B"),
    ("答案是：B。", "B"),
    ("答案：Ｂ", "B"),
    ("答案：选B", "B"),
    ("答案应为C", "C"),
    ("因此，答案为选项D。", "D"),
    ("正确答案是（C）", "C"),
    ("正确的是D", "D"),
    ("正确的一项是：A", "A"),
    ("不正确的是A", "A"),
    ("故选C。", "C"),
    ("故选：C", "C"),
    ("选B", "B"),
    ("应该选择C项", "C"),
    ("综上所述,选D", "D"),
    ("我认为是B", "B"),
    ("B选项正确", "B"),
    ("不选A，选B", "B"),
    ("选B不选A", "B"),
    ("不得不选C", "C"),
    ("选A是错误的，应选B", "B"),
    ("如果选A，则矛盾，故选B", "B"),
    ("答案不是A，而是C", "C"),
    ("答案是A吗？不对，答案是B", "B"),
    ("排除A、C，选D", "D"),
    ("A、B、C均错误，D正确", "D"),
    ("选项A不对，所以选D", "D"),
    ("A项正确，B项错误，C项错误，D项错误。故选A。A项正确是因为B", "A"),
    ("【答案】: B <eoa> 参考:选项A不对", "B"),
    ("【解析】A项错误，B项正确 <eoe>\n【答案】 B <eoa>", "B"),
    ("D\n\n题目：下一题\n答案：A", "D"),
    ("所以答案是线粒体。", "C"),
    ("本题考查细胞结构。线粒体是能量工厂", "C"),
    ("不选A", None),
    ("选项A不对", None),
    ("我们选A作为参考系", None),
    ("让我们一步一步思考", None),
    ("我不确定", None),
    ("答案是A或B", None),
]

SEVERAL = [
    ("【答案】 AB <eoa> 因为选项C和D…", "AB"),
    ("BA", "AB"),
    ("A, B and D", "ABD"),
    ("答案是A、C、D", "ACD"),
    ("答案是(A)(C)", "AC"),
    ("答案：ACD", "ACD"),
    ("选AD", "AD"),
    ("正确的有A和D", "AD"),
    ("不选A、B，选CD", "CD"),
    ("A、B、D。因为C不对", "ABD"),
    ("【答案】: A C <eoa>", "AC"),
    ("A正确，B错误，C正确，D错误", "AC"),
    ("The correct answers are A, B and D.", "ABD"),
    ("(A) and (C)", "AC"),
    ("Answer: A and C", "AC"),
    ("\\boxed{B, D}", "BD"),
    ("A is correct. B is wrong. C is correct.", "AC"),
    ("The answer is A, C is incorrect", "A"),
    ("A. Paris\nC. Oslo", "AC"),
    ("A", "A"),
    ("", None),
]

SERIES = [
    ("36. C 37. D 38. A", "ABCD", "CDA"),
    ("1-5 CFAED", "ABCDEFG", "CFAED"),
    ("36—40: CDBAC 41-42 AB", "ABCD", "CDBACAB"),
    ("【答案】: C <eoa>\n【答案】: A <eoa>", "ABCD", "CA"),
    ("答案：C A D\n解析：A项不对", "ABCD", "CAD"),
    ("第1题：A\n第2题：B", "ABCD", "AB"),
    ("A\nB\nC", "ABCD", "ABC"),
    ("【答案】CFAED<eoa>", "ABCDEFG", "CFAED"),
    ("(1) A (2) B", "ABCD", ["A", "B", None]),
    ("1. A good start, so C\n2. B", "ABCD", [None, "B"]),
    ("A", "ABCD", [None, None, None]),
    ("", "ABCD", [None, None]),
]


@pytest.mark.parametrize(("reply", "letter"), ENGLISH)
def test_english_replies_are_read_as_people_read_them(reply: str, letter: str | None) -> None:
    assert stated_letter(reply, CITIES) == letter


@pytest.mark.parametrize(("reply", "letter"), CHINESE)
def test_chinese_replies_are_read_as_people_read_them(reply: str, letter: str | None) -> None:
    assert stated_letter(reply, CELLS) == letter


@pytest.mark.parametrize(("reply", "letters"), SEVERAL)
def test_several_letters_are_read_as_a_set(reply: str, letters: str | None) -> None:
    assert stated_letters(reply, CITIES) == letters


@pytest.mark.parametrize(("reply", "letters", "answers"), SERIES)
def test_answers_to_several_questions_keep_their_order(reply: str, letters: str, answers: str | list[str | None]) -> None:
    assert stated_series(reply, letters, len(answers)) == list(answers)


def test_short_options_must_be_all_that_is_said() -> None:
    assert stated_letter("There are 5 cases to look at.", NUMBERS) is None
    assert stated_letter("12", NUMBERS) == "B"
    assert stated_letter("The answer is 12.5.", NUMBERS) == "C"


def test_a_reply_that_is_one_options_text_is_that_option() -> None:
    roman = ["A only", "B only", "Both A and B", "A and D"]
    assert stated_letter("A and D.", roman) == "D"
    assert stated_letters("Both A and B", roman) == "C"
    assert stated_letter("it gains a 5' cap and a 3' poly(A)tail", ["it is read", "it gains a 5' cap and a 3' poly(A)tail."]) == "B"
    assert stated_letter("cd", ["cd ..", "cd HOME", "cd .", "cd"]) == "D"


def test_options_with_the_same_text_have_no_text() -> None:
    assert stated_letter("The answer is Paris.", ("Paris", "Paris", "Oslo")) is None


@pytest.mark.parametrize(("n", "letter"), [(2, None), (4, None), (5, "E"), (7, "E")])
def test_a_letter_beyond_the_options_is_none(n: int, letter: str | None) -> None:
    assert stated_letter("The answer is E.", [f"option number {i}" for i in range(n)]) == letter


FRAMES = [
    "The answer is {}.",
    "答案是{}。",
    "{}",
    "Answer: {}",
    "故选{}",
    "\\boxed{{{}}}",
    "【答案】{}<eoa>",
    "The correct answers are {}.",
]
SPACE = st.text(" \t\n\r\u3000", max_size=6)
REMARKS = st.sampled_from(
    ["I hope this helps.", "Let me know whether you need more detail!", "因为题目就是这样说的。", "解析：略。", "x = 3."]
)
ANY = st.text(max_size=200) | st.lists(
    st.sampled_from([*"ABCDabcd.,()、。 \n", "答案", "是", "不", "选", "answer", " is ", "not ", "or"]), max_size=60
).map("".join)


@settings(max_examples=300, deadline=None)
@given(ANY, st.integers(1, 10))
def test_any_text_is_read_without_a_crash(text: str, n: int) -> None:
    options = [f"text {i}" for i in range(n)]
    letter, letters = stated_letter(text, options), stated_letters(text, options)
    assert letter is None or letter in "ABCDEFGHIJ"[:n]
    assert letters is None or letters == "".join(sorted(set(letters) & set("ABCDEFGHIJ"[:n])))
    assert len(stated_series(text, "ABCD", n)) == n


@settings(max_examples=200, deadline=None)
@given(ANY, SPACE, SPACE)
def test_white_space_around_a_reply_changes_nothing(text: str, before: str, after: str) -> None:
    for read in (stated_letter, stated_letters):
        assert read(before + text + after, CITIES) == read(text, CITIES)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(FRAMES), st.sampled_from("ABCD"), REMARKS)
def test_a_remark_behind_the_answer_changes_nothing(frame: str, letter: str, remark: str) -> None:
    reply = frame.format(letter)
    assert stated_letter(reply, CITIES) == stated_letter(f"{reply}\n{remark}", CITIES) == letter


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(FRAMES), st.permutations("ABCD"), st.integers(2, 4), st.sampled_from(["", ", ", "、", " ", " and ", "和"]))
def test_the_order_of_letters_in_a_set_does_not_matter(frame: str, letters: list[str], size: int, join: str) -> None:
    said = letters[:size]
    assert stated_letters(frame.format(join.join(said)), CITIES) == "".join(sorted(said))


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(["not {}", "不选{}", "It isn't {}.", "选项{}不对", "{} is wrong.", "如果选{}", "Is it {}?", "答案不是{}"]),
    st.sampled_from("ABCD"),
)
def test_a_denied_letter_states_nothing(frame: str, letter: str) -> None:
    assert stated_letter(frame.format(letter), CITIES) is None
