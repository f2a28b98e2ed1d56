"""The project's own prompts are whole and parallel, and every layout that people have is read."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from evalkit.extraction import same_language
from evalkit.judge import prompt_set, rubrics
from modelkit.errors import DataError, UserError
from tests.evalkit.tiny import write_jsonl


def test_the_built_in_set_is_parallel_in_two_languages() -> None:
    found = prompt_set.load("bilingual")
    assert Counter(prompt.language for prompt in found.prompts) == {"en": 104, "zh": 104}
    each = Counter((prompt.category, prompt.language) for prompt in found.prompts)
    assert len(each) == 26
    assert set(each.values()) == {8}
    by_key = {prompt.key: prompt for prompt in found.prompts}
    for prompt in found.prompts:
        other = by_key["zh" if prompt.language == "en" else "en", prompt.id]
        assert prompt.category == other.category
        assert len(prompt.turns) == len(other.turns)
        assert [one is None for one in prompt.references] == [one is None for one in other.references]


def test_every_prompt_and_rubric_is_in_its_language() -> None:
    found, criteria = prompt_set.load("bilingual"), rubrics.load()
    for prompt in found.prompts:
        own = "这是一句话" if prompt.language == "zh" else "these are words"
        assert all(same_language(own, turn) for turn in prompt.turns if prompt.id != "classification-4"), prompt.id
        rubric = criteria.of(prompt.category, prompt.language)
        assert all(
            same_language(own, text) for text in [*rubric.criteria.values(), *rubric.bands, rubric.excels, rubric.fails, rubric.title]
        )
        assert len(rubric.bands) == 5
        assert {"task", "language"} < set(rubric.criteria)


def test_categories_with_right_answers_have_references() -> None:
    for prompt in prompt_set.load("bilingual").prompts:
        if prompt.category in ("classification", "closed_qa", "open_qa", "extraction", "reasoning", "code", "safety"):
            assert prompt.reference(len(prompt.turns)), prompt.id


def test_some_of_a_set_can_be_picked() -> None:
    found = prompt_set.load("bilingual").pick(["zh"], ["code", "chat"], limit=2)
    assert [prompt.key for prompt in found.prompts] == [("zh", f"{name}-{i}") for name in ("chat", "code") for i in (1, 2)]
    with pytest.raises(UserError, match="no category 'poetry'"):
        found.pick(categories=["poetry"])


@pytest.mark.parametrize(
    ("row", "turns", "reference", "category"),
    [
        ({"turns": ["Hi"], "category": "chat"}, ["Hi"], None, "chat"),
        ({"messages": [{"role": "user", "content": "1 + 1?"}], "reference": "2", "category": "en"}, ["1 + 1?"], "2", "en"),
        ({"question_id": 7, "category": "math", "turns": ["a?", "b?"], "reference": ["x", "y"]}, ["a?", "b?"], "x", "math"),
        ({"instruction": "Sum up", "input": "a text", "target": "t", "category": "qa", "id": 3}, ["Sum up\n\na text"], "t", "qa"),
        ({"instruction": "Write", "output": "a baseline", "generator": "x", "dataset": "koala"}, ["Write"], None, "koala"),
        ({"question": "天为什么蓝？", "class": "open qa", "std_answer": "散射"}, ["天为什么蓝？"], "散射", "open qa"),
    ],
)
def test_each_layout_is_read(tmp_path: Path, row: dict, turns: list[str], reference: str | None, category: str) -> None:
    for file, text in (("a.jsonl", json.dumps(row) + "\n"), ("b.json", json.dumps([row]))):
        (tmp_path / file).write_text(text, encoding="utf-8")
        (prompt,) = prompt_set.load(str(tmp_path / file)).prompts
        assert (prompt.turns, prompt.reference(1), prompt.category) == (turns, reference, category)
        assert prompt.language == ("zh" if "天" in turns[0] else "en")


def test_the_peers_own_files_are_read(shared: Path) -> None:
    data = shared / "data"
    bench = data / "fastchat-judge/data/mt_bench"
    found = prompt_set.load(str(bench / "question.jsonl"), bench / "reference_answer/gpt-4.jsonl")
    assert (found.name, len(found.prompts), found.turns) == ("mt_bench", 80, 160)
    assert Counter(prompt.category for prompt in found.prompts if prompt.references)["math"] == 10
    assert {prompt.category: prompt.temperature for prompt in found.prompts}["extraction"] == 0
    assert {prompt.category: prompt.temperature for prompt in found.prompts}["stem"] == 0.1
    assert len(prompt_set.load(str(data / "fastchat-judge/data/vicuna_bench/question.jsonl")).prompts) == 80
    for language, name in (("zh", "cn"), ("en", "en")):
        folder = data / "colossaleval-gpt-eval/gpt_evaluation"
        found = prompt_set.load(str(folder / f"data/eval_{name}_examples.json"))
        assert Counter(prompt.category for prompt in found.prompts)["roleplay"] == 5
        assert {prompt.language for prompt in found.prompts} == {language}
        metrics = rubrics.load(folder / f"prompt/evaluation_prompt/evaluation_prompt_{name}.json", language)  # type: ignore[arg-type]
        assert "language_organization" in metrics.of("chat", language).criteria  # type: ignore[arg-type]
        assert "1-5" not in str(metrics.of("chat", language).criteria)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no prompts"),
        ('{"turns": ["a"]}\n{"turns":', "p.jsonl:2 is no JSON object"),
        ('{"turns": []}', "p.jsonl:1 is no prompt (turns"),
        ('{"turns": ["a", ""]}', "a turn is empty"),
        ('{"turns": ["a"], "references": ["x", "y"]}', "as many as turns"),
        ('{"text": "a"}', "p.jsonl:1 is no prompt of a known layout"),
        ('["a"]', "entry 1 is no JSON object"),
        ('[{"turns": ["a"]}', "cut off"),
        ('{"id": "1", "turns": ["a"]}\n{"id": "1", "turns": ["b"]}', "two en prompts with the id '1'"),
    ],
)
def test_a_file_that_is_no_prompts_says_where_and_why(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as raised:
        prompt_set.load(str(file))
    assert said in str(raised.value)


def test_a_row_of_ours_comes_back_as_it_was(tmp_path: Path) -> None:
    rows = [prompt.model_dump() for prompt in prompt_set.load("bilingual").prompts]
    write_jsonl(tmp_path / "bilingual.jsonl", rows)
    assert prompt_set.load(str(tmp_path / "bilingual.jsonl")).sha256 == prompt_set.load("bilingual").sha256
