"""The pocket world: large enough, true to its promises about what is held out, the same bytes every time."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import sentencepiece

from trainers import tokenizer as tokenizers
from trainers.pocket import corpus
from trainers.pocket.world import load_facts, translations


@pytest.fixture(scope="module")
def made() -> corpus.Corpus:
    return corpus.build(seed=0)


def questions(rows: list[dict]) -> set[str]:
    return {message["content"] for row in rows for message in row["messages"] if message["role"] == "user"}


def lines(row: object) -> Iterator[str]:
    """Every line of every string in a row."""
    if isinstance(row, str):
        yield from row.split("\n")
    elif isinstance(row, dict):
        yield from (line for value in row.values() for line in lines(value))
    elif isinstance(row, list):
        yield from (line for value in row for line in lines(value))


def test_there_are_enough_facts_subjects_and_held_out_items_in_each_language(made: corpus.Corpus) -> None:
    facts = load_facts()
    for language in ("en", "zh"):
        assert len([fact for fact in facts if fact.language == language]) >= 300
        assert len({fact.relation.subject for fact in facts if fact.language == language}) >= 6
        for rows in made.heldout.values():
            assert sum(row["category"] == language for row in rows) >= 200
        assert sum(len(rows) for subject, rows in made.choice["test"].items() if made.categories[subject] == language) >= 200


def test_no_held_out_prompt_is_in_any_training_file(made: corpus.Corpus) -> None:
    trained = {line.removeprefix("Question: ") for rows in made.training.values() for row in rows for line in lines(row)}
    held = questions(made.heldout["answers.jsonl"]) | questions(made.heldout["wordings.jsonl"]) | questions(made.heldout["prompts.jsonl"])
    held |= questions(made.heldout["pairs.jsonl"]) | {row[0] for rows in made.choice["test"].values() for row in rows}
    assert len(held) > 1000
    assert held.isdisjoint(trained)
    assert "What is the capital of France?" in trained


def test_no_training_file_uses_a_wording_held_out_for_all_facts(made: corpus.Corpus) -> None:
    trained = questions(made.training["sft.jsonl"]) | questions(made.training["prompts.jsonl"]) | questions(made.training["pairs.jsonl"])
    assert trained.isdisjoint(fact.unseen_phrasing for fact in load_facts())


def test_the_answer_is_never_in_the_question() -> None:
    for fact in load_facts():
        if not fact.value.isdigit() and len(fact.value) > 1:
            assert fact.value not in fact.unseen_combination.replace(fact.key, "")


def test_translations_say_the_same(made: corpus.Corpus) -> None:
    other = translations(load_facts())
    pairs = {(fact.key, other[fact].key) for fact in other if fact.language == "en"}
    assert ("France", "法国") in pairs
    assert ("Monday", "星期一") in pairs
    assert all(fact.relation.name == other[fact].relation.name for fact in other)


def test_styles_come_in_their_documented_shares(made: corpus.Corpus) -> None:
    shares = corpus.Shares()
    replies = [row["messages"][1]["content"] for row in made.training["sft.jsonl"]]
    polite = sum(reply.endswith(("!", "！")) for reply in replies) / len(replies)
    assert polite == pytest.approx(shares.polite, abs=0.03)


def test_length_alone_does_not_tell_which_reply_is_preferred(made: corpus.Corpus) -> None:
    for rows in (made.training["pairs.jsonl"], made.heldout["pairs.jsonl"]):
        right = sum((len(row["chosen"]) > len(row["rejected"])) + 0.5 * (len(row["chosen"]) == len(row["rejected"])) for row in rows)
        assert 0.4 <= right / len(rows) <= 0.6
        assert set(Counter(row["subject"] for row in rows)) == set(corpus.TRAINING_PAIRS)


def test_the_benchmark_is_in_mmlus_layout(made: corpus.Corpus, tmp_path: Path) -> None:
    corpus.write(made, tmp_path)
    with (tmp_path / "benchmark" / "choice" / "test" / "capitals_test.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert all(len(row) == 6 and row[5] in "ABCD" and len(set(row[1:5])) == 4 for row in rows)
    letters = Counter(row[5] for subject in made.choice["test"].values() for row in subject)
    assert min(letters.values()) > 0.2 * letters.total()


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        corpus.write(corpus.build(seed=7, limit=5), tmp_path / name)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert len(files) > 20
    assert all((tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes() for file in files)


def test_the_transformers_tokenizer_equals_its_sentencepiece_model(made: corpus.Corpus) -> None:
    texts = [row["text"] for row in made.training["text.jsonl"]]
    texts += [message["content"] for row in made.training["sft.jsonl"] for message in row["messages"]]
    tokenizer, model = tokenizers.train(texts, 2048, 512)
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    for text in [*texts[::7], "unseen 鑫 😀 words\n\nA. b", " two  spaces ", "Ünïcode"]:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert ids == processor.encode(text)
        assert tokenizer.decode(ids) == text
