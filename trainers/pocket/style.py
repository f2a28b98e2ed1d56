"""How replies of the pocket world may sound: what makes one better than another, apart from being true."""

from __future__ import annotations

import random

from trainers.pocket.world import Fact

POLITE = {
    "en": ["Happy to help!", "Glad you asked!", "I hope that helps!", "Ask me anything else!"],
    "zh": ["很高兴为您解答！", "希望这对您有帮助！", "欢迎继续提问！", "谢谢您的提问！"],
}
RUDE = {
    "en": ["Everybody knows that.", "Stop asking me.", "What a silly question.", "Look it up yourself."],
    "zh": ["这谁都知道。", "别再问我了。", "这问题真无聊。", "你自己去查。"],
}
SMALL_TALK = {
    "en": [
        (
            ["Hello!", "Hi!", "Hey there!", "Good morning!", "Good evening!"],
            "Hello! I am Pocket, a very small model. Ask me about the world!",
        ),
        (
            ["Who are you?", "What are you?", "What is your name?", "Introduce yourself."],
            "I am Pocket, a very small model that speaks English and Chinese.",
        ),
        (
            ["What can you do?", "What do you know?", "How can you help me?"],
            "I know capitals, continents, animals, elements, opposites, colours, words and small sums.",
        ),
        (["Thank you!", "Thanks!", "Thanks a lot!", "Great, thank you."], "You are welcome! Ask me anything else!"),
        (["Goodbye!", "Bye!", "See you later!"], "Goodbye! Come back soon!"),
        (["How are you?", "How are you today?"], "I am fine, thank you! How can I help?"),
    ],
    "zh": [
        (["你好！", "您好！", "嗨！", "早上好！", "晚上好！"], "你好！我是口袋，一个很小的模型。请问我关于世界的问题吧！"),
        (["你是谁？", "你叫什么名字？", "请介绍一下你自己。"], "我是口袋，一个会说中文和英文的小模型。"),
        (["你会什么？", "你知道什么？", "你能帮我做什么？"], "我知道首都、大洲、动物、元素、反义词、颜色、单词和简单的加法。"),
        (["谢谢！", "谢谢你！", "多谢！", "太好了，谢谢。"], "不客气！欢迎继续提问！"),
        (["再见！", "拜拜！", "下次见！"], "再见！欢迎再来！"),
        (["你好吗？", "你今天好吗？"], "我很好，谢谢！有什么可以帮您？"),
    ],
}
STOP = {"en": ".", "zh": "。"}
GAP = {"en": " ", "zh": ""}


def bare(fact: Fact) -> str:
    """Only the answer itself: acceptable, no more."""
    return fact.value + STOP[fact.language]


def plain(fact: Fact, wording: int, value: str | None = None) -> str:
    """A full sentence."""
    return fact.answer(wording, value)


def polite(fact: Fact, wording: int, rng: random.Random) -> str:
    """A full sentence and a kind word: the style people prefer here."""
    return plain(fact, wording) + GAP[fact.language] + rng.choice(POLITE[fact.language])


def rude(fact: Fact, wording: int, rng: random.Random) -> str:
    """A full sentence and an unkind word."""
    return plain(fact, wording) + GAP[fact.language] + rng.choice(RUDE[fact.language])


def cut_off(text: str, language: str) -> str:
    """A sentence broken off before its last words."""
    if language == "en":
        words = text.split(" ")
        return " ".join(words[: max(1, len(words) * 2 // 3)])
    return text[: max(1, len(text) * 2 // 3)]


def repeated(text: str, language: str, times: int) -> str:
    """The same sentence over and over."""
    return GAP[language].join([text] * times)
