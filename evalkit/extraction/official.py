r"""How the benchmarks' own scripts read an answer out of a reply, by the name of the ladder in :mod:`evalkit.extraction`.

They are kept with their faults where a published number depends on them, except for two: where a script guesses at random
(CMMLU) nothing is read, and GAOKAO's three misreadings are mended (see :func:`gaokao`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from evalkit.extraction.mathematics import last_box
from evalkit.extraction.phrases import LETTERS

if TYPE_CHECKING:
    from evalkit.types import Question

ABCD = "([ABCD])"
_SEVEN = 7  # options of GAOKAO's cloze test, which its script reads apart


def helm(reply: str, question: Question) -> str | None:
    """The reply is the letter, blanks aside, or it is nothing (HELM generates up to the end of the line)."""
    return _option(reply.strip().split("\n", 1)[0].strip(), question)


_CEVAL_STEPS = (
    *(rf"答案是?\s?{ABCD}", rf"答案是?\s?：{ABCD}", rf"答案是?\s?:{ABCD}", rf"答案应该?是\s?{ABCD}", rf"答案应该?选\s?{ABCD}"),
    *(rf"答案为\s?{ABCD}", rf"选择\s?{ABCD}", rf"只有选?项?\s?{ABCD}\s?是?对", rf"只有选?项?\s?{ABCD}\s?是?错"),
    *(rf"只有选?项?\s?{ABCD}\s?不?正确", rf"只有选?项?\s?{ABCD}\s?错误", rf"说法不?对选?项?的?是\s?{ABCD}"),
    *(rf"说法不?正确选?项?的?是\s?{ABCD}", rf"说法错误选?项?的?是\s?{ABCD}", rf"{ABCD}\s?是正确的", rf"{ABCD}\s?是正确答案"),
    *(rf"选项\s?{ABCD}\s?正确", rf"所以答\s?{ABCD}", rf"1.\s?{ABCD}[.。$]?$", r"所以\s?([ABCD][.。$]?$)", r"所有\s?([ABCD][.。$]?$)"),
    *(rf"[\s，：:,]{ABCD}[。，,\.]?$", rf"[\s，,：:][故即]{ABCD}[。\.]?$", rf"[\s，,：:]因此{ABCD}[。\.]?$"),
    *(rf"[是为。]\s?{ABCD}[。\.]?$", rf"因此\s?{ABCD}[。\.]?$", rf"显然\s?{ABCD}[。\.]?$"),
    *(r"1.\s?(.*?)$", r"答案是\s?(\S+)(?:。|$)", r"答案应该是\s?(\S+)(?:。|$)", r"答案为\s?(\S+)(?:。|$)"),
)
_CEVAL_THINK = "让我们一步一步思考"


def ceval_chain_of_thought(reply: str, question: Question) -> str | None:
    """C-Eval, ``llama.py``: the first of 31 patterns that is found in the reply up to the next "让我们一步一步思考"; the last four
    take an option's text too. The prompt's own end ("让我们一步一步思考，\\n1.") belongs to what is searched."""
    text = f"{_CEVAL_THINK}，\n1." + reply.split(_CEVAL_THINK, 1)[0]
    said = next((match[1] for pattern in _CEVAL_STEPS if (match := re.search(pattern, text))), "")
    texts = {option: letter for letter, option in zip("DCBA", reversed(question.options), strict=False)}
    return _option(texts.get(said, said), question)


_CEVAL_ANSWERS = (
    *(r"^选([A-D])", r"^选项([A-D])"),
    *(rf"答案{verb}\s?选?项?\s?([A-D])" for verb in ("是", "为", "应为", "选", "是:", "应该是:")),
    r"正确的一项是\s?([A-D])",
    *(rf"答案{verb}\s?选?项?\s?([A-D])" for verb in ("为:", "应为:", ":", "是：", "应该是：", "为：", "应为：", "：")),
)


def ceval_zero_shot(reply: str, question: Question) -> str | None:
    """C-Eval, ``chatgpt.py``: the reply's first character, else the last match of the first of 17 patterns that matches."""
    text = reply.strip()
    found = [text[:1]] if text[:1] in {"A", "B", "C", "D"} else next(filter(None, (re.findall(one, text) for one in _CEVAL_ANSWERS)), [])
    return _option(found[-1], question) if found else None


_CMMLU_ONCE = (
    *(rf"答案(?:选项)?(?:是|为)：? ?{ABCD}", rf"答案(?:是|为)选项 ?{ABCD}", rf"故?选择?：? ?{ABCD}", rf"{ABCD} ?选?项(?:是|为)?正确"),
    *(rf"正确的?选项(?:是|为) ?{ABCD}", rf"答案(?:应该)?(?:是|为){ABCD}", rf"选项 ?{ABCD} ?(?:是|为)?正确", rf"选择答案 ?{ABCD}"),
    *(rf"答案?：?{ABCD}", rf"{ABCD}(?:选?项)?是?符合题意", rf"答案选项：? ?{ABCD}", rf"答案(?:选项)?为.*?{ABCD}"),
)


def cmmlu(reply: str, question: Question) -> str | None:
    """CMMLU, ``mp_utils.py``: the reply's first character, else the first of twelve patterns that is found, else the last letter of
    the line before 当选 or 正确, else one after 是, else the only letter there is. The script then draws a letter at random; here
    nothing is read instead."""
    if reply[:1] in {"A", "B", "C", "D"}:
        return _option(reply[:1], question)
    for pattern in _CMMLU_ONCE:
        if match := re.search(pattern, reply, re.MULTILINE):
            return _option(match[1], question)
    for judged in ("当选", "正确"):
        if match := re.search(rf"[ABCD].*?{judged}", reply):
            return _option(re.findall("[ABCD]", match[0])[-1], question)
    if match := re.search(rf"[^不]是：? ?{ABCD}", reply) or re.match(rf"^[^ABCD]*{ABCD}[^ABCD]*$", reply):
        return _option(match[1], question)
    return None


def agieval_zero_shot(reply: str, question: Question) -> str | None:
    """AGIEval, zero-shot: the first capital A–F anywhere ("After all, B" is A); for several right options all of them, those of no
    option too ("AB, as F = ma" is ABF, and wrong); for cloze questions the box, else the last formula, else what follows the last
    "=", else the last number."""
    if question.kind == "cloze":
        return _agieval_maths(_after_prefix(reply))
    if question.kind == "multiple":
        return "".join(sorted(set(re.findall("[A-F]", reply)))) or None
    match = re.search("[A-F]", reply)
    return _option(match[0], question) if match else None


def agieval_few_shot(reply: str, question: Question) -> str | None:
    """AGIEval, few-shot: the first capital A–G after "answer is" or 答案是, else as zero-shot; of a cloze question all that follows
    "The answer is therefore" or 答案是."""
    return _agieval_stated(reply, reply, question)


def agieval_few_shot_steps(reply: str, question: Question) -> str | None:
    """AGIEval, few-shot with chain of thought: as few-shot, on the last line that says anything. A letter that isn't stated there is
    the first capital of the whole reply."""
    lines = [line for line in reply.split("\n") if line.strip()]
    return _agieval_stated(lines[-1] if lines else "", reply, question)


def _agieval_stated(said: str, reply: str, question: Question) -> str | None:
    """What *said*, all of the *reply* or its last line, states."""
    if question.kind == "cloze":
        return _after_prefix(said).strip() or None
    if question.kind == "multiple":
        return agieval_zero_shot(said, question)
    match = re.search("(?:answer is |答案是).*?([A-G])", said)
    return _option(match[1], question) if match else agieval_zero_shot(reply, question)


def _after_prefix(reply: str) -> str:
    for prefix in ("The answer is therefore", "答案是"):
        reply = reply.rsplit(prefix, 1)[-1].strip() if prefix in reply else reply
    return reply


def _agieval_maths(text: str) -> str | None:
    if r"\boxed" in text:
        box = last_box(text)
        return box.rsplit("=", 1)[-1].lstrip() if box is not None else None
    if (formulas := re.findall(r"\$(.*)\$", text)) and formulas[-1]:
        return formulas[-1].rsplit("=", 1)[-1].lstrip()
    if "=" in text:
        return text.rsplit("=", 1)[-1].lstrip(" ").rstrip(".")
    numbers = re.findall(r"\$?\d+(?:\.\d+)?(?!\w)", text)
    return numbers[-1] if numbers else None


def gaokao(reply: str, question: Question) -> str | None:
    """GAOKAO-Bench, ``bench_function.py``.

    One question of a prompt: what stands after the last 【答案】, else the last letter (of several right options: the letters among
    the last ten characters). Several: what stands after 【答案】 when that is one letter for each, else the reply's first capitals, or
    of seven sentences for five gaps its first A to G.
    Mended: the script overlooks a 【答案】 that opens the reply, reads on behind the answer ("【答案】B 参考：选项A不对" is A), and
    calls "BA" wrong where "AB" is right.
    """
    letters = LETTERS[: len(question.options)]
    sections = re.findall(rf"【答案】[^A-Z<【]*((?:[{letters}][\s,，、;；和]*)+)", reply)
    answers = [re.findall("[A-Z]", section) for section in sections]
    if question.parts > 1:
        each = [letter for answer in answers for letter in answer]
        capitals = letters if len(letters) == _SEVEN else "A-Z"
        found = each if len(each) == question.parts else re.findall(f"[{capitals}]", reply)[: question.parts]
        return _option(found[question.part], question) if len(found) == question.parts else None
    if question.kind == "multiple":
        return _options("".join(answers[-1]) if answers else re.sub(r"\s+", "", reply)[-10:], question)
    found = answers[-1][:1] if answers else re.findall(f"[{letters}]", reply)[-1:]
    return found[0] if found else None


def _option(letter: str, question: Question) -> str | None:
    return letter if letter in set(LETTERS[: len(question.options)]) else None


def _options(text: str, question: Question) -> str | None:
    found = {letter for letter in text if _option(letter, question)}
    return "".join(sorted(found)) or None


ONE: dict[str, Callable[[str, Question], str | None]] = {
    "helm": helm,
    "ceval-cot": ceval_chain_of_thought,
    "ceval-zero-shot": ceval_zero_shot,
    "cmmlu": cmmlu,
    "agieval-zero-shot": agieval_zero_shot,
    "agieval-few-shot": agieval_few_shot,
    "agieval-few-shot-cot": agieval_few_shot_steps,
}
"""The ladders that read one question's answer."""
