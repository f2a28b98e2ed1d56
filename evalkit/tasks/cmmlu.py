"""CMMLU as it is asked by its authors (haonan-li/CMMLU) and by lm-evaluation-harness."""

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
    """The authors' chain of thought: the question asks for an analysis, while the shots show the bare letter."""

    thought: str = ""

    def block(self, question: Question, method: str = "letters") -> str:
        """The question, asking to think."""
        return super().block(question).removesuffix(self.cue) + self.thought

    def shot(self, question: Question, number: int = 1) -> str:
        """The question as an example without any thought."""
        return super().block(question) + self.reply(question) + self.between

    def turns(self, question: Question, method: str) -> tuple[str, str]:
        """The question asking to think, also among the shots of a chat."""
        return self.block(question, method), self.reply(question)


OFFICIAL = Protocol(
    "official",
    "macro",
    header="以下是关于{subject}的单项选择题，请直接给出正确答案的选项。\n\n",
    title=lambda subject: CHINESE[subject],
    opening="题目：",
    cue="\n答案是：",
    drop="longest",
    extraction="cmmlu",
)
LM_EVAL = Protocol(
    "lm-eval",
    "micro",
    header=OFFICIAL.header,
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
    header="以下是关于{subject}的单项选择题，请分析并选出正确答案。\n\n",
    title=OFFICIAL.title,
    opening=OFFICIAL.opening,
    cue=OFFICIAL.cue,
    thought="\n逐步分析并给出答案选项。",
    drop="longest",
    methods=("generate",),
    allows=("generate",),
    extraction="cmmlu",
    max_tokens=512,
)
PROTOCOLS = {protocol.name: protocol for protocol in (OFFICIAL, LM_EVAL, COT)}


def load(
    data: Path | None, shots: int | None = None, methods: Sequence[str] | None = None, protocol: str = "official", split: str | None = None
) -> ChoiceTask:
    """The test questions below *data* (``dev/<subject>.csv``, ``test/<subject>.csv``).

    :raises UserError: when the data is not there or not laid out so.
    """
    return CMMLU.load(PROTOCOLS[protocol], data, shots, methods, split)


_SUBJECTS = {
    "STEM": """
        anatomy=解剖学 astronomy=天文学 college_actuarial_science=大学精算学
        college_engineering_hydrology=大学工程水文学 college_mathematics=大学数学
        college_medical_statistics=大学医学统计 computer_science=计算机科学 conceptual_physics=概念物理学
        electrical_engineering=电气工程 elementary_mathematics=初等数学 genetics=遗传学 high_school_biology=高中生物
        high_school_chemistry=高中化学 high_school_mathematics=高中数学 high_school_physics=高中物理学
        machine_learning=机器学习 virology=病毒学
    """,
    "Humanities": """
        arts=艺术学 chinese_history=中国历史 chinese_literature=中国文学 college_law=大学法律 global_facts=全球事实
        international_law=国际法学 jurisprudence=法理学 logical=逻辑学 marxist_theory=马克思主义理论 philosophy=哲学
        professional_law=专业法学 world_history=世界历史 world_religions=世界宗教
    """,
    "Social Science": """
        ancient_chinese=古汉语 business_ethics=商业伦理 chinese_civil_service_exam=中国公务员考试
        chinese_food_culture=中国饮食文化 chinese_foreign_policy=中国外交政策
        chinese_teacher_qualification=中国教师资格 college_education=大学教育学 economics=经济学 education=教育学
        elementary_chinese=小学语文 ethnology=民族学 high_school_geography=高中地理 high_school_politics=高中政治
        journalism=新闻学 management=管理学 marketing=市场营销 modern_chinese=现代汉语
        professional_accounting=专业会计 professional_psychology=专业心理学 public_relations=公共关系
        security_study=安全研究 sociology=社会学
    """,
    "Other": """
        agronomy=农学 chinese_driving_rule=中国驾驶规则 clinical_knowledge=临床知识 college_medicine=大学医学
        computer_security=计算机安全 construction_project_management=建设工程管理 elementary_commonsense=小学常识
        elementary_information_and_technology=小学信息技术 food_science=食品科学 human_sexuality=人类性行为
        legal_and_moral_basis=法律与道德基础 nutrition=营养学 professional_medicine=专业医学 sports_science=体育学
        traditional_chinese_medicine=中医中药
    """,
}
CATEGORY = {pair.split("=")[0]: category for category, subjects in _SUBJECTS.items() for pair in subjects.split()}
CHINESE: dict[str, str] = dict(pair.split("=") for subjects in _SUBJECTS.values() for pair in subjects.split())
CHINA_SPECIFIC = {
    *("ancient_chinese", "chinese_civil_service_exam", "chinese_driving_rule", "chinese_food_culture", "chinese_foreign_policy"),
    *("chinese_history", "chinese_literature", "chinese_teacher_qualification", "construction_project_management"),
    *("elementary_chinese", "elementary_commonsense", "ethnology", "high_school_politics", "modern_chinese"),
    "traditional_chinese_medicine",
}
"""Subjects that count in this category as well as in their own."""
_COLUMNS = Columns("Question", ("A", "B", "C", "D"), "Answer")
CMMLU = Benchmark(
    "cmmlu",
    split="test",
    file="{subject}.csv",
    columns=_COLUMNS,
    subjects=tuple(sorted(CATEGORY)),
    categories=lambda subject: (CATEGORY[subject], "China specific") if subject in CHINA_SPECIFIC else (CATEGORY[subject],),
    hub=Hub("haonan-li/cmmlu", _COLUMNS, tuple(sorted(CATEGORY)), {}),
)
