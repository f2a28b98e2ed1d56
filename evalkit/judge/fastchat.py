"""MT-bench's own wording, read from FastChat's ``judge_prompts.jsonl``: both kinds of judge prompt, with and without references.

Its texts are used as they are, for scores that can be held beside published ones; unlike ours they don't guard against an answer
that speaks to the judge. Verdicts are read from the last mark and checked for range, where FastChat takes the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from evalkit.judge import verdicts
from evalkit.judge.formats import objects, text_of
from evalkit.judge.prompt_set import Prompt
from evalkit.judge.wording import Question
from modelkit.chat import Message
from modelkit.errors import DataError, UserError
from modelkit.fingerprint import sha256_of_text

Kind = Literal["single", "pairwise"]
_FORMATS = {"single": "[[rating]]", "pairwise": "[[A]]"}
_UNREFERENCED = {"writing", "roleplay", "extraction", "stem", "humanities"}
"""MT-bench's categories that FastChat judges without a reference (common.py, NEED_REF_CATS), though some of their questions come with
notes for one."""


@dataclass(frozen=True)
class Template:
    """One judge prompt: a system message and a text with fields in braces."""

    system: str
    text: str


@dataclass(frozen=True)
class FastChatWording:
    """Templates by kind, whether a reference is shown, and whether a second turn is judged."""

    templates: dict[tuple[Kind, bool, bool], Template]
    identity: str

    def single(self, prompt: Prompt, turn: int, conversation: Sequence[Message]) -> Question:
        """See :class:`evalkit.judge.wording.Wording`."""
        return Question(self._messages("single", prompt, turn, {"": _said(conversation)}), None, verdicts.score)

    def pair(self, prompt: Prompt, turn: int, first: Sequence[Message], second: Sequence[Message]) -> Question:
        """See :class:`evalkit.judge.wording.Wording`."""
        return Question(self._messages("pairwise", prompt, turn, {"_a": _said(first), "_b": _said(second)}), None, verdicts.winner)

    def _messages(self, kind: Kind, prompt: Prompt, turn: int, answers: dict[str, list[str]]) -> list[Message]:
        if turn > 2:
            raise UserError(f"MT-bench's judge prompts know two turns, and {prompt.id} has {len(prompt.turns)}: leave --judge-prompts out.")
        referenced = prompt.category not in _UNREFERENCED and bool(prompt.reference(turn))
        template = self.templates.get((kind, referenced, turn > 1))
        if template is None:
            what = f"{kind} prompt {'with' if referenced else 'without'} reference for turn {turn}"
            raise DataError(f"the judge prompts have no {what}: use FastChat's judge_prompts.jsonl as it is.")
        fields = {"question": prompt.turns[0]}
        fields |= {f"question_{i}": text for i, text in enumerate(prompt.turns, 1)}
        fields |= {f"ref_answer_{i}": text or "" for i, text in enumerate(prompt.references, 1)}
        for side, texts in answers.items():
            fields |= {f"answer{side}": texts[0]} | {f"answer{side}_{i}": text for i, text in enumerate(texts, 1)}
        try:
            text = template.text.format(**fields)
        except (KeyError, IndexError, ValueError) as error:
            raise DataError(f"a judge prompt asks for {error}, which is nothing a prompt has: use FastChat's file as it is.") from None
        return [{"role": "system", "content": template.system}, {"role": "user", "content": text}]


def load(path: Path) -> FastChatWording:
    """:raises DataError: when *path* is no file of judge prompts."""
    text = text_of(path)
    templates: dict[tuple[Kind, bool, bool], Template] = {}
    for place, entry in objects(text, str(path)):
        try:
            kind, name = entry["type"], str(entry["name"])
            if _FORMATS.get(kind) == entry["output_format"]:
                templates[kind, "math" in name, "multi-turn" in name] = Template(entry["system_prompt"], entry["prompt_template"])
        except KeyError as error:
            raise DataError(f"{place} is no judge prompt (it lacks {error}): use FastChat's judge_prompts.jsonl.") from None
    if not templates:
        raise DataError(f"{path} holds no judge prompts that answer with [[rating]] or [[A]]: use FastChat's judge_prompts.jsonl.")
    return FastChatWording(templates, sha256_of_text(text))


def _said(conversation: Sequence[Message]) -> list[str]:
    return [message["content"] for message in conversation if message["role"] == "assistant"]
