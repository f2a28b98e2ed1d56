"""C-Eval as it is asked by its authors (hkust-nlp/ceval), with and without chain of thought, and by lm-evaluation-harness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evalkit.protocol import Protocol
from evalkit.reading import Columns
from evalkit.tasks.folders import Benchmark
from evalkit.tasks.hub import Hub
from evalkit.types import ChoiceTask, Question


@dataclass(frozen=True)
class Reasoned(Protocol):
    """The authors' chain of thought: shots explain themselves, and the reply goes on from ``1.``; in a chat it starts anew."""

    thought: str = ""

    def block(self, question: Question, method: str = "letters") -> str:
        """The question with the beginning of the thought."""
        return f"{super().block(question)}{self.thought}1."

    def reply(self, question: Question) -> str:
        """A shot's explanation and what follows from it."""
        return f"{self.thought}{question.explanation}\n所以答案是{question.gold}。"

    def shot(self, question: Question, number: int = 1) -> str:
        """The question with its explanation."""
        return super().block(question) + self.reply(question) + self.between

    def turns(self, question: Question, method: str) -> tuple[str, str]:
        """The question alone, and the explanation as the assistant's turn."""
        return super().block(question), self.reply(question)


OFFICIAL = Protocol(
    "official",
    "macro",
    header="以下是中国关于{subject}考试的单项选择题，请选出其中的正确答案。\n\n",
    title=lambda subject: CHINESE[subject],
    cue="\n答案：",
    system="你是一个中文人工智能助手，以下是中国关于{subject}考试的单项选择题，请选出其中的正确答案。",
    extraction="ceval-zero-shot",
)
LM_EVAL = Protocol(
    "lm-eval",
    "micro",
    header="以下是中国关于{subject}的单项选择题，请选出其中的正确答案。\n\n",
    title=OFFICIAL.title,
    cue="\n答案：",
    letter_lead=" ",
    strip=True,
    drop="left",
    limit=None,
)
COT = Reasoned(
    "official-cot",
    "macro",
    header=OFFICIAL.header,
    title=OFFICIAL.title,
    cue=OFFICIAL.cue,
    system=OFFICIAL.system,
    thought="让我们一步一步思考，\n",
    methods=("generate",),
    allows=("generate",),
    extraction="ceval-cot",
    max_tokens=512,
    stop=("\n\n",),
    approximate="the authors sample at temperature 0.8; replies are greedy here",
)
PROTOCOLS = {protocol.name: protocol for protocol in (OFFICIAL, LM_EVAL, COT)}


def load(
    data: Path | None, shots: int | None = None, methods: Sequence[str] | None = None, protocol: str = "official", split: str | None = None
) -> ChoiceTask:
    """The validation questions below *data* (``dev/<subject>_dev.csv``, ``val/<subject>_val.csv``), or those of the test split.

    The test split has no answers in public: its predictions are for submission.

    :raises UserError: when the data is not there or not laid out so.
    """
    return CEVAL.load(PROTOCOLS[protocol], data, shots, methods, split)


_SUBJECTS = {
    "STEM": """
        computer_network=计算机网络 operating_system=操作系统 computer_architecture=计算机组成
        college_programming=大学编程 college_physics=大学物理 college_chemistry=大学化学 advanced_mathematics=高等数学
        probability_and_statistics=概率统计 discrete_mathematics=离散数学 electrical_engineer=注册电气工程师
        metrology_engineer=注册计量师 high_school_mathematics=高中数学 high_school_physics=高中物理
        high_school_chemistry=高中化学 high_school_biology=高中生物 middle_school_mathematics=初中数学
        middle_school_biology=初中生物 middle_school_physics=初中物理 middle_school_chemistry=初中化学
        veterinary_medicine=兽医学
    """,
    "Social Science": """
        college_economics=大学经济学 business_administration=工商管理 marxism=马克思主义基本原理
        mao_zedong_thought=毛泽东思想和中国特色社会主义理论体系概论 education_science=教育学
        teacher_qualification=教师资格 high_school_politics=高中政治 high_school_geography=高中地理
        middle_school_politics=初中政治 middle_school_geography=初中地理
    """,
    "Humanities": """
        modern_chinese_history=近代史纲要 ideological_and_moral_cultivation=思想道德修养与法律基础 logic=逻辑学
        law=法学 chinese_language_and_literature=中国语言文学 art_studies=艺术学 professional_tour_guide=导游资格
        legal_professional=法律职业资格 high_school_chinese=高中语文 high_school_history=高中历史
        middle_school_history=初中历史
    """,
    "Other": """
        civil_servant=公务员 sports_science=体育学 plant_protection=植物保护 basic_medicine=基础医学
        clinical_medicine=临床医学 urban_and_rural_planner=注册城乡规划师 accountant=注册会计师
        fire_engineer=注册消防工程师 environmental_impact_assessment_engineer=环境影响评价工程师 tax_accountant=税务师
        physician=医师资格
    """,
}
CATEGORY = {pair.split("=")[0]: category for category, subjects in _SUBJECTS.items() for pair in subjects.split()}
CHINESE: dict[str, str] = dict(pair.split("=") for subjects in _SUBJECTS.values() for pair in subjects.split())
HARD = {
    "advanced_mathematics",
    "discrete_mathematics",
    "probability_and_statistics",
    "college_chemistry",
    "college_physics",
    "high_school_mathematics",
    "high_school_chemistry",
    "high_school_physics",
}
"""The eight subjects of C-Eval Hard, which count in their own category as well."""
_COLUMNS = Columns("question", ("A", "B", "C", "D"), "answer", explanation="explanation")
CEVAL = Benchmark(
    "ceval",
    split="val",
    file="{subject}_{split}.csv",
    columns=_COLUMNS,
    subjects=tuple(sorted(CATEGORY)),
    categories=lambda subject: (CATEGORY[subject], "Hard") if subject in HARD else (CATEGORY[subject],),
    hub=Hub("ceval/ceval-exam", _COLUMNS, tuple(sorted(CATEGORY)), {}),
    hidden=("test",),
)
