"""The prompts of AGIEval's authors (ruixiangcui/AGIEval, dataset_loader.py): without shots, with them, and with thoughts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from evalkit.fitting import Ask
from evalkit.protocol import Protocol
from evalkit.types import LETTERS, Question
from evalkit.validation import Kind

ENGLISH = (
    "lsat-ar",
    "lsat-lr",
    "lsat-rc",
    "logiqa-en",
    "sat-math",
    "sat-en",
    "sat-en-without-passage",
    "aqua-rat",
    "gaokao-english",
    "math",
)
CHINESE = (
    *("logiqa-zh", "jec-qa-kd", "jec-qa-ca", "gaokao-chinese", "gaokao-geography", "gaokao-history", "gaokao-biology"),
    *("gaokao-chemistry", "gaokao-physics", "gaokao-mathqa", "gaokao-mathcloze"),
)
KIND: dict[str, Kind] = {
    **dict.fromkeys(("jec-qa-kd", "jec-qa-ca", "gaokao-physics"), "multiple"),
    **dict.fromkeys(("math", "gaokao-mathcloze"), "cloze"),
}
"""Tasks that are not single choice."""


@dataclass(frozen=True)
class ZeroShot(Protocol):
    """The question and the beginning of its answer, without a header."""

    def block(self, question: Question, method: str = "letters") -> str:
        """Passage, question, options in one line, and the answer's beginning."""
        return self.asked(question) + "\n" + self.beginning(question)

    def asked(self, question: Question) -> str:
        """Passage, question, and options in one line."""
        english = question.subject in ENGLISH
        options = (" Answer Choices: " if english else " 选项：") + " ".join(question.options) if question.options else ""
        return question.passage + ("Q: " if english else "问题：") + question.text + options

    def beginning(self, question: Question) -> str:
        """The answer's beginning."""
        english, last = question.subject in ENGLISH, LETTERS[len(question.options) - 1]
        if not question.options:
            return "A: The answer is" if english else "答案："
        return f"A: Among A through {last}, the answer is" if english else f"答案：从A到{last}, 我们应选择"

    def lead(self, question: Question) -> str:
        """A blank in English, nothing in Chinese."""
        return " " if question.subject in ENGLISH else ""


@dataclass(frozen=True)
class ThoughtsFirst(ZeroShot):
    """Chain of thought without shots, in two steps: thoughts about the question, and the answer behind them.

    The second step names A to E in English and A to D in Chinese, however many options there are.
    """

    def beginning(self, question: Question) -> str:
        """An invitation to think."""
        if question.subject in ENGLISH:
            return ("" if question.options else "A: ") + "Let's think step by step."
        last = LETTERS[len(question.options) - 1]
        return f"从A到{last}, 我们应选择什么？让我们逐步思考：" if question.options else "答案：让我们逐步思考："

    def conclusion(self, question: Question) -> str:
        """The answer's beginning."""
        if question.subject in ENGLISH:
            return "Therefore, among A through E, the answer is" if question.options else "Therefore, the answer is"
        return "因此，从A到D, 我们应选择" if question.options else "因此，答案是"


@dataclass(frozen=True)
class FewShot(Protocol):
    """Numbered problems with their answers; the question is the next one, and its whole answer is up to the model.

    For ``letters`` the answer's beginning is added, so that a letter can follow.

    :param explained: whether the shots explain themselves (chain of thought).
    """

    explained: bool = False

    def headline(self, subject: str) -> str:
        """The line above the problems."""
        return "Here are the answers for the problems in the exam.\n" if subject in ENGLISH else "以下是考试中各个问题的答案。\n"

    def block(self, question: Question, method: str = "generate") -> str:
        """The problem without its number."""
        english, cloze = question.subject in ENGLISH, question.kind == "cloze"
        choose = "Choose from the following options:    " if english else "从以下选项中选择:    "
        asked = question.text + "\n" if cloze else f"{question.passage} {question.text}\n{choose}{' '.join(question.options)}\n"
        return asked + (self._answer(question).rstrip() if method == "letters" else "")

    def shot(self, question: Question, number: int = 1) -> str:
        """The numbered problem with its answer and the mark behind every example."""
        return self._number(question.subject).format(number) + self.block(question) + self._solution(question, number) + "\n<END>\n"

    def lead(self, question: Question) -> str:
        """A blank in both languages."""
        return " "

    def asks(self, subject: str, shots: Sequence[Question], items: Sequence[Question], method: str) -> list[Ask]:
        """The parts of the prompts; the question's number follows those of the shots."""
        numbered = self._number(subject)
        turns = [(numbered.format(i) + self.block(shot), self._solution(shot, i)) for i, shot in enumerate(shots, start=1)]
        made = super().asks(subject, shots, items, method)
        return [replace(ask, number=numbered, turns=tuple(turns)) for ask in made]

    def _solution(self, question: Question, number: int) -> str:
        title = f"Explanation for Problem {number}:   " if question.subject in ENGLISH else f"问题 {number}的解析:   "
        return (f"{title}{question.explanation}\n" if self.explained else "") + self._answer(question) + question.gold

    def _answer(self, question: Question) -> str:
        return "The answer is therefore " if question.subject in ENGLISH else "答案是 "

    def _number(self, subject: str) -> str:
        return "Problem {}.   " if subject in ENGLISH else "问题 {}.   "


_SYSTEM = "You are a helpful AI assistant."
ZERO_SHOT = ZeroShot(
    "official",
    "macro",
    shots=0,
    system=_SYSTEM,
    limit=None,
    methods=("generate",),
    allows=("generate", "letters"),
    extraction="agieval-zero-shot",
    max_tokens=256,
)
FEW_SHOT = FewShot(
    "official",
    "macro",
    system=_SYSTEM,
    header_in_chat=False,
    shots_limit=2048,
    limit=None,
    methods=("generate",),
    allows=("generate", "letters"),
    extraction="agieval-few-shot",
    max_tokens=256,
    stop=("<END>",),
    approximate="the shots' budget of 2,048 tokens is counted with the model's own tokenizer, not with cl100k",
)
ZERO_SHOT_COT = ThoughtsFirst(
    "official-cot",
    "macro",
    shots=0,
    system=_SYSTEM,
    limit=None,
    methods=("generate",),
    allows=("generate",),
    extraction="agieval-zero-shot",
    max_tokens=1024,
    answer_tokens=256,
)
FEW_SHOT_COT = replace(
    FEW_SHOT, name="official-cot", explained=True, allows=("generate",), extraction="agieval-few-shot-cot", max_tokens=1024
)
PROTOCOLS = {protocol.name: protocol for protocol in (ZERO_SHOT, ZERO_SHOT_COT)}
WITH_SHOTS = {protocol.name: protocol for protocol in (FEW_SHOT, FEW_SHOT_COT)}
