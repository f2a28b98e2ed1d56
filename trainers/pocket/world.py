"""The facts of the pocket world and the ways to ask for them (``facts/*.csv``, ``facts/relations.yaml``)."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import yaml

FACTS = Path(__file__).parent / "facts"
LANGUAGES = ("en", "zh")


@dataclass(frozen=True)
class Relation:
    """One kind of fact in one language: how it is stated, asked and answered."""

    name: str
    language: str
    subject: str
    statements: tuple[str, ...]
    questions: tuple[str, ...]
    answers: tuple[str, ...]
    values: tuple[str, ...]


@dataclass(frozen=True)
class Fact:
    """One fact in one language, for example (capital, en): France → Paris."""

    relation: Relation
    key: str
    value: str

    @property
    def language(self) -> str:
        return self.relation.language

    @cached_property
    def unseen_phrasing(self) -> str:
        """A question whose wording no training text uses, for any fact of the relation."""
        return self.relation.questions[-1].format(key=self.key)

    @cached_property
    def unseen_combination(self) -> str:
        """A question whose wording is trained with other facts, but never with this one."""
        return self._ordered[0]

    @cached_property
    def trained_questions(self) -> tuple[str, ...]:
        """The questions for this fact that training data may contain."""
        return self._ordered[1:]

    @cached_property
    def _ordered(self) -> tuple[str, ...]:
        known = [question.format(key=self.key) for question in self.relation.questions[:-1]]
        held_out = _digest(self.relation.name, self.key) % len(known)
        return (known[held_out], *known[:held_out], *known[held_out + 1 :])

    def statement(self, i: int) -> str:
        """The fact as a plain sentence, in wording *i* (any integer)."""
        return self.relation.statements[i % len(self.relation.statements)].format(key=self.key, value=self.value)

    def answer(self, i: int, value: str | None = None) -> str:
        """The fact as a reply in a full sentence, in wording *i*; *value* replaces the true one."""
        return self.relation.answers[i % len(self.relation.answers)].format(key=self.key, value=value or self.value)

    @property
    def wrong_values(self) -> list[str]:
        """The other values of the relation."""
        return [value for value in self.relation.values if value != self.value]


def load_facts(limit: int | None = None) -> list[Fact]:
    """All facts, English first; the i-th English and the i-th Chinese fact say the same. *limit*: per relation."""
    relations = yaml.safe_load((FACTS / "relations.yaml").read_text(encoding="utf-8"))
    return [fact for language in LANGUAGES for name, entry in relations.items() for fact in _facts(name, entry, language, limit)]


def translations(facts: list[Fact]) -> dict[Fact, Fact]:
    """Each fact's counterpart in the other language."""
    half = len(facts) // 2
    pairs = list(zip(facts[:half], facts[half:], strict=True))
    return {a: b for pair in pairs for a, b in (pair, pair[::-1])}


def _facts(name: str, entry: dict, language: str, limit: int | None) -> Iterator[Fact]:
    with (FACTS / entry["table"]).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    other = "zh" if language == "en" else "en"
    key, value = f"{entry['key']}_{language}", f"{entry['value']}_{other if entry.get('cross') else language}"
    texts = entry[language]
    relation = Relation(
        name,
        language,
        entry["subject"][language],
        tuple(texts["statements"]),
        tuple(texts["questions"]),
        tuple(texts["answers"]),
        tuple(dict.fromkeys(row[value] for row in rows)),
    )
    for row in rows[:limit]:
        yield Fact(relation, row[key], row[value])


def _digest(*parts: str) -> int:
    return int.from_bytes(hashlib.sha256("\0".join(parts).encode()).digest()[:8], "big")
