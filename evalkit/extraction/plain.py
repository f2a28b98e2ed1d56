r"""A reply without its dress: full-width forms, markdown, LaTeX wrappers, thinking and whatever follows the answer."""

from __future__ import annotations

import re
import unicodedata

_WRAPPER = re.compile(r"\\(?:text|mathrm|mathbf|textbf|mathit|mathsf|textit|boldsymbol|mbox|operatorname)\s*\{([^{}]*)\}")
_BOX = re.compile(r"\\(?:boxed|fbox)\s*(?:\{([^{}]*)\}|([A-Z])\b)")
_MARKUP = re.compile(r"\\[()\[\]]|[*`$\\]|__|^[ \t]*(?:#+|>)[ \t]*|</?[A-Za-z]\w{0,11} ?/?>", re.MULTILINE)
_NEXT_QUESTION = re.compile(r"\n\s*(?:question|problem|题目|问题|q)\s*\d*\s*[:.]", re.IGNORECASE)


def spoken(reply: str) -> str:
    """The reply without its thinking. One that never stopped thinking (``<think>`` without its end) says nothing."""
    reply = reply.rsplit("</think>", 1)[-1]
    return reply.split("<think>", 1)[0]


def plain(reply: str) -> str:
    """The text of a reply as one would say it, ready to be searched for phrases.

    Full-width letters and punctuation become ASCII (NFKC), ``**B**``, ``$B$`` and ``\\text{B}`` become ``B``, ``\\boxed{B}``
    becomes a line ``answer: B``, GAOKAO's ``<eoa>`` ends a line. A text that goes on to ask the next question, as base models do,
    ends there.
    """
    text = unicodedata.normalize("NFKC", spoken(reply)).replace("\r\n", "\n").replace("\r", "\n")
    text = re.sub(r"<eo[ae]>|<\|[^<>|]*\|>", "\n", text)
    while (bare := _WRAPPER.sub(r"\1", text)) != text:
        text = bare
    text = _BOX.sub(lambda box: f"\nanswer: {box[1] or box[2] or ''}\n", text)
    text = _MARKUP.sub("", text)
    text = re.sub(r"[^\S\n]+", " ", text)
    text = re.sub(r" ?\n[ \n]*", "\n", text).strip()
    return _NEXT_QUESTION.split(text, maxsplit=1)[0]
