"""What models are asked: a prompt of one or more user turns, in a category and a language, with references where there are any."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from evalkit.judge import formats
from modelkit.errors import DataError, UserError
from modelkit.fingerprint import sha256_of_text

BILINGUAL = "bilingual"
"""The project's own set: 13 categories × 8 prompts × 2 languages; the prompts that share an ``id`` ask for the same."""

Language = Literal["en", "zh"]


class Prompt(BaseModel):
    """One prompt. ``references`` are parallel to ``turns``, with ``None`` where a turn has no right answer.

    :param system: what stands before the first turn.
    :param temperature: at which it is answered; ``None`` for the category's own.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: str
    language: Language
    category: str
    turns: list[str] = Field(min_length=1)
    references: list[str | None] = []
    system: str | None = None
    temperature: float | None = None

    @model_validator(mode="after")
    def _parallel(self) -> Prompt:
        if not all(turn.strip() for turn in self.turns):
            raise ValueError("a turn is empty")
        if self.references and len(self.references) != len(self.turns):
            raise ValueError("references must be as many as turns")
        return self

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from every other prompt of its set."""
        return self.language, self.id

    def reference(self, turn: int) -> str | None:
        """The reference of turn *turn*, counted from 1."""
        return self.references[turn - 1] if self.references else None


@dataclass(frozen=True)
class PromptSet:
    """Prompts under one ``name``; ``sha256`` is over all that a model or a judge gets to see of them."""

    name: str
    prompts: Sequence[Prompt]

    @property
    def sha256(self) -> str:
        """``sha256:…`` of the prompts in their order."""
        return sha256_of_text("\n".join(prompt.model_dump_json() for prompt in self.prompts))

    @property
    def turns(self) -> int:
        """How many answers one model gives."""
        return sum(len(prompt.turns) for prompt in self.prompts)

    def pick(self, languages: Sequence[str] | None = None, categories: Sequence[str] | None = None, limit: int | None = None) -> PromptSet:
        """The prompts of these languages and categories, at most *limit* of each category in each language.

        :raises UserError: for a language or category that the set hasn't.
        """
        for what, wanted, known in (
            ("language", languages, {prompt.language for prompt in self.prompts}),
            ("category", categories, {prompt.category for prompt in self.prompts}),
        ):
            if missing := sorted(set(wanted or ()) - known):
                raise UserError(f"{self.name} has no {what} {missing[0]!r}: it has {', '.join(sorted(known))}.")
        seen: Counter[tuple[str, str]] = Counter()
        picked = []
        for prompt in self.prompts:
            group = (prompt.language, prompt.category)
            if (not languages or prompt.language in languages) and (not categories or prompt.category in categories):
                seen[group] += 1
                if limit is None or seen[group] <= limit:
                    picked.append(prompt)
        return replace(self, prompts=picked)


def load(name: str, references: Path | None = None) -> PromptSet:
    """The set called *name*: ``bilingual``, or the path of a file in one of the layouts that :mod:`evalkit.judge.formats` knows.

    :param references: a file of reference answers in MT-bench's layout.
    :raises DataError: for a file that isn't there or is none of these.
    """
    if name == BILINGUAL:
        folder = resources.files("evalkit.judge") / "prompts"
        files = sorted((file for file in folder.iterdir() if file.name.endswith(".jsonl")), key=lambda file: file.name)
        rows = [row for file in files for row in formats.read(file.read_text(encoding="utf-8"), file.name)]
        title = BILINGUAL
    else:
        path = Path(name)
        rows = formats.read(formats.text_of(path), str(path), formats.text_of(references) if references else None)
        title = path.resolve().parent.name if path.stem == "question" else path.stem  # FastChat's benchmarks are named by their folder
    prompts = [_prompt(row.place, row.fields) for row in rows]
    often = Counter(prompt.key for prompt in prompts)
    if twice := [key for key, count in often.items() if count > 1]:
        raise DataError(f"{name} has two {twice[0][0]} prompts with the id {twice[0][1]!r}: give each its own.")
    if not prompts:
        raise DataError(f"{name} holds no prompts: put one JSON object with id, language, category and turns on each line.")
    return PromptSet(title, prompts)


def _prompt(place: str, fields: dict) -> Prompt:
    try:
        return Prompt.model_validate(fields)
    except ValueError as error:
        problem = error.errors()[0] if hasattr(error, "errors") else {"msg": str(error), "loc": ()}
        where = ".".join(map(str, problem["loc"]))
        raise DataError(f"{place} is no prompt ({f'{where}: ' if where else ''}{problem['msg']}): mend that line.") from None
