"""Texts in both languages of the site."""

from __future__ import annotations

from typing import NamedTuple


class Both(NamedTuple):
    """A text in English and in simplified Chinese."""

    en: str
    zh: str

    def of(self, language: str) -> str:
        """The text in *language*; anything but zh is English."""
        return self.zh if language == "zh" else self.en


def same(text: str) -> Both:
    """A text that is the same in both: a name, a figure."""
    return Both(text, text)


_CATEGORIES = {
    one.en.lower(): one
    for one in (
        Both("STEM", "理工"),
        Both("humanities", "人文"),
        Both("social sciences", "社会科学"),
        Both("Social Science", "社会科学"),
        Both("other", "其他"),
        Both("other (business, health, misc.)", "其他（商业、健康等）"),
        Both("China specific", "中国特色"),
        Both("hard", "难题"),
        Both("brainstorming", "头脑风暴"),
        Both("chat", "日常聊天"),
        Both("classification", "分类"),
        Both("closed QA", "依据材料问答"),
        Both("code", "代码"),
        Both("extraction", "信息抽取"),
        Both("generation", "写作"),
        Both("open QA", "知识问答"),
        Both("reasoning", "推理"),
        Both("rewriting", "改写"),
        Both("roleplay", "角色扮演"),
        Both("safety", "安全"),
        Both("summarisation", "摘要"),
    )
} | {"en": Both("English", "英文"), "zh": Both("Chinese", "中文")}


def category(name: str) -> Both:
    """A category of a benchmark or of a set of prompts; one that we have no words for keeps its name."""
    shown = name.replace("_", " ")
    return _CATEGORIES.get(shown.lower(), same(shown))
