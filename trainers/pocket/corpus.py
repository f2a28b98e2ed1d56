"""Everything a pocket run learns from and is measured on, made deterministically out of the facts.

Training data asks for a fact only in its trained wordings; every held-out item uses a wording that no training file has for that
fact (``unseen_combination``) or for any fact at all (``unseen_phrasing``).
"""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from trainers.pocket import style
from trainers.pocket.world import LANGUAGES, Fact, load_facts, translations

LETTERS = "ABCD"
HEADER = "The following are multiple choice questions (with answers) about {subject}.\n\n"
TRAINING_PAIRS = {"truth": 24, "language": 3, "completeness": 3, "politeness": 3, "repetition": 3}
"""Training pairs per fact, by kind: style is learnt in passing, truth fact by fact, and better from new pairs than from old ones."""
PAIRS_WITH_HISTORY = 0.1
"""Share of the training pairs in which another question was asked and answered before."""
Row = dict[str, Any]


@dataclass(frozen=True)
class Shares:
    """The documented shares of reply styles in the SFT data; what is left over is a bare answer.

    Half the replies are as good as they get, the rest merely acceptable: that is what the reward model has to teach.
    """

    polite: float = 0.4
    plain: float = 0.3
    two_turns: float = 0.15


@dataclass(frozen=True)
class Corpus:
    """Training rows by file name, and the held-out benchmark's rows."""

    training: dict[str, list[Row]]
    choice: dict[str, dict[str, list[list[str]]]]
    heldout: dict[str, list[Row]]
    categories: dict[str, str]


def build(seed: int, limit: int | None = None, shares: Shares = Shares()) -> Corpus:
    """Make all data. *limit* keeps that many facts per relation (for a tiny run). The same arguments give the same bytes."""
    facts = load_facts(limit)
    other = translations(facts)
    rng = random.Random(seed)
    training = {
        "text.jsonl": _text(facts, rng),
        "sft.jsonl": _sft(facts, shares, rng),
        "pairs.jsonl": _pairs(facts, other, rng, TRAINING_PAIRS, lambda fact: fact.trained_questions, PAIRS_WITH_HISTORY),
        "prompts.jsonl": [_prompt(fact, question) for fact in facts for question in fact.trained_questions],
    }
    held = random.Random(seed + 1)
    heldout = {
        "answers.jsonl": [_answer(fact, fact.unseen_combination) for fact in facts],
        "wordings.jsonl": [_answer(fact, fact.unseen_phrasing) for fact in _sample(facts, 200, held)],
        "pairs.jsonl": _pairs(facts, other, held, dict.fromkeys(TRAINING_PAIRS, 1), lambda fact: [fact.unseen_combination]),
        "prompts.jsonl": [_prompt(fact, fact.unseen_combination) for fact in _sample(facts, 200, held)],
        "text.jsonl": [
            {"text": f"{fact.unseen_combination} {fact.answer(0)}", "category": fact.language} for fact in _sample(facts, 200, held)
        ],
    }
    return Corpus(training, _choice(facts, held), heldout, {fact.relation.subject: fact.language for fact in facts})


def write(corpus: Corpus, folder: Path) -> None:
    """Write the corpus: training files at the top, the held-out suite below ``benchmark/``."""
    for name, rows in corpus.training.items():
        _write_jsonl(folder / name, rows)
    benchmark = folder / "benchmark"
    for name, rows in corpus.heldout.items():
        _write_jsonl(benchmark / name, rows)
    for split, subjects in corpus.choice.items():
        (benchmark / "choice" / split).mkdir(parents=True, exist_ok=True)
        for subject, lines in subjects.items():
            with (benchmark / "choice" / split / f"{subject}_{split}.csv").open("w", encoding="utf-8", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows(lines)
    suite = {
        "name": "pocket",
        "languages": list(LANGUAGES),
        "tasks": {
            "choice": {
                "kind": "choice",
                "data": "choice",
                "shots": 0,
                "methods": ["perplexity", "letters"],
                "header": HEADER,
                "categories": corpus.categories,
            },
            "answer": {"kind": "answer", "data": "answers.jsonl", "max_tokens": 48},
            "wording": {"kind": "answer", "data": "wordings.jsonl", "max_tokens": 48},
            "pairs": {"kind": "pairs", "data": "pairs.jsonl"},
            "reward": {"kind": "reward", "data": "prompts.jsonl", "reward_model": "rm", "reference": "sft", "samples": 4, "max_tokens": 48},
            "text": {"kind": "text", "data": "text.jsonl"},
        },
    }
    (benchmark / "task.yaml").write_text(yaml.safe_dump(suite, allow_unicode=True, sort_keys=False), encoding="utf-8")


def _text(facts: Sequence[Fact], rng: random.Random) -> list[Row]:
    """Plain sentences, and plain questions with their bare answers."""
    rows = [{"text": fact.statement(i), "category": fact.language} for fact in facts for i in range(len(fact.relation.statements))]
    rows += [
        {"text": f"Question: {question}\nAnswer: {fact.value}", "category": fact.language}
        for fact in facts
        for question in fact.trained_questions
    ]
    rng.shuffle(rows)
    return rows


def _options(fact: Fact, rng: random.Random) -> tuple[list[str], str]:
    options = rng.sample(fact.wrong_values, 3)
    place = rng.randrange(4)
    options.insert(place, fact.value)
    return options, LETTERS[place]


def _choice(facts: Sequence[Fact], rng: random.Random) -> dict[str, dict[str, list[list[str]]]]:
    """The held-out benchmark in MMLU's CSV layout: five examples for each subject's dev file (trained wordings), the rest test."""
    splits: dict[str, dict[str, list[list[str]]]] = {"dev": {}, "test": {}}
    for fact in facts:
        subject = fact.relation.subject
        dev, test = (splits[split].setdefault(subject, []) for split in ("dev", "test"))
        question, rows = (fact.trained_questions[0], dev) if len(dev) < 5 else (fact.unseen_combination, test)
        options, letter = _options(fact, rng)
        rows.append([question, *options, letter])
    return splits


def _sft(facts: Sequence[Fact], shares: Shares, rng: random.Random) -> list[Row]:
    rows = []
    for fact in facts:
        for question in fact.trained_questions:
            messages = [*_turn(fact, question, shares, rng)]
            if rng.random() < shares.two_turns:
                second = rng.choice(facts)
                messages += _turn(second, rng.choice(second.trained_questions), shares, rng)
            rows.append({"messages": messages})
    for language in LANGUAGES:
        for greetings, reply in style.SMALL_TALK[language]:
            rows += [{"messages": [_user(greeting), _assistant(reply)]} for greeting in greetings]
    rng.shuffle(rows)
    return rows


def _turn(fact: Fact, question: str, shares: Shares, rng: random.Random) -> list[Row]:
    draw, wording = rng.random(), rng.randrange(8)
    if draw < shares.polite:
        reply = style.polite(fact, wording, rng)
    elif draw < shares.polite + shares.plain:
        reply = style.plain(fact, wording)
    else:
        reply = style.bare(fact)
    return [_user(question), _assistant(reply)]


def _pairs(
    facts: Sequence[Fact],
    other: dict[Fact, Fact],
    rng: random.Random,
    copies: dict[str, int],
    questions: Callable[[Fact], Sequence[str]],
    with_history: float = 0.0,
) -> list[Row]:
    """Preference pairs of five kinds. Lengths are balanced across kinds, so that length alone says little."""
    rows = []
    for fact in facts:
        for kind, count in copies.items():
            for _ in range(count):
                chosen, rejected = _pair(kind, fact, other[fact], rng)
                before = _exchange(rng.choice(facts), rng) if rng.random() < with_history else []
                rows.append(
                    {
                        "messages": [*before, _user(rng.choice(questions(fact)))],
                        "chosen": chosen,
                        "rejected": rejected,
                        "source": "pocket",
                        "subject": kind,
                        "category": fact.language,
                    }
                )
    rng.shuffle(rows)
    return rows


def _exchange(fact: Fact, rng: random.Random) -> list[Row]:
    """A question and a good answer to it."""
    return [_user(rng.choice(fact.trained_questions)), _assistant(style.polite(fact, rng.randrange(8), rng))]


def _pair(kind: str, fact: Fact, twin: Fact, rng: random.Random) -> tuple[str, str]:
    """(chosen, rejected), alike but for the one thing that *kind* names."""
    wording, coin, language = rng.randrange(8), rng.random() < 0.5, fact.language
    if kind == "truth":
        wrong = rng.choice(fact.wrong_values)
        phrase = style.GAP[language] + rng.choice(style.POLITE[language]) if coin else ""
        return style.plain(fact, wording) + phrase, style.plain(fact, wording, wrong) + phrase
    if kind == "language":
        if coin:
            return style.plain(fact, wording), style.plain(twin, wording)
        return style.polite(fact, wording, rng), style.polite(twin, wording, rng)
    if kind == "completeness":
        whole = style.plain(fact, wording)
        return whole, style.bare(fact) if coin else style.cut_off(whole, language)
    if kind == "politeness":
        return style.polite(fact, wording, rng), style.plain(fact, wording) if coin else style.rude(fact, wording, rng)
    reply = style.polite(fact, wording, rng) if coin else style.plain(fact, wording)
    return reply, style.repeated(reply, language, rng.choice((2, 3)))


def _answer(fact: Fact, question: str) -> Row:
    return {
        "messages": [_user(question)],
        "reference": fact.value,
        "alternatives": list(fact.relation.values),
        "subject": fact.relation.name,
        "category": fact.language,
    }


def _prompt(fact: Fact, question: str) -> Row:
    return {"messages": [_user(question)], "reference": fact.value, "category": fact.language}


def _user(text: str) -> Row:
    return {"role": "user", "content": text}


def _assistant(text: str) -> Row:
    return {"role": "assistant", "content": text}


def _sample(facts: Sequence[Fact], per_language: int, rng: random.Random) -> list[Fact]:
    chosen: list[Fact] = []
    for language in LANGUAGES:
        of_language = [fact for fact in facts if fact.language == language]
        chosen += rng.sample(of_language, min(per_language, len(of_language)))
    return chosen


def _write_jsonl(path: Path, rows: Iterable[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
