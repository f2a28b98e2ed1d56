"""Option order: the permutations themselves, and what they say of three models one can think through."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.permutation import origin, permuted, robustness, shift_of, shifted, unpermuted
from evalkit.planning import Wanted
from evalkit.preparation import Settings
from evalkit.recorded import read
from evalkit.run import evaluate
from evalkit.tasks.mmlu import HENDRYCKS
from evalkit.types import LETTERS, ChoiceTask, Question, Sample
from modelkit.run import Run
from tests.evalkit.tiny import write_jsonl


def question(number: int, gold: str = "A", options: Sequence[str] = ("sun", "moon", "star", "sky")) -> Question:
    return Question(f"space/{number}", "space", (), f"Question {number}?", tuple(options), gold)


def task(*questions: Question) -> ChoiceTask:
    return ChoiceTask("mmlu@hendrycks", "sha256:0", questions, HENDRYCKS, {}, 0, ["letters"])


def answered(questions: Sequence[Question], answer: Callable[[Question], str | None]) -> list[Sample]:
    return [Sample(one, "letters", one.gold, answer(one), answer(one) == one.gold) for one in questions]


@given(st.integers(2, 10).flatmap(lambda k: st.tuples(st.just(k), st.integers(0, k - 1))))
def test_every_option_stands_at_every_letter_once_and_gold_moves_along(case: tuple[int, int]) -> None:
    k, right = case
    asked = question(0, LETTERS[right], [f"option {i}" for i in range(k)])
    orders = [shifted(asked, places) for places in range(k)]
    for place in range(k):
        assert len({one.options[place] for one in orders}) == k
    assert {one.options[LETTERS.index(one.gold)] for one in orders} == {f"option {right}"}
    assert Counter(one.gold for one in orders) == Counter(LETTERS[:k])


def test_a_permuted_task_keeps_each_question_first_and_ids_tell_the_shift() -> None:
    made = permuted(task(question(0, "B"), question(1, "C", ["x", "y", "z"])))
    assert [item.id for item in made.items] == ["space/0", "space/0~1", "space/0~2", "space/0~3", "space/1", "space/1~1", "space/1~2"]
    assert made.items[1].options == ("sky", "sun", "moon", "star")
    assert made.items[1].gold == "C"
    assert [(origin(item.id), shift_of(item.id)) for item in made.items[4:]] == [("space/1", 0), ("space/1", 1), ("space/1", 2)]


def test_questions_that_have_no_order_stay_single() -> None:
    several = Question("a/0", "a", (), "?", ("x", "y", "z"), "AB", kind="multiple")
    cloze = Question("a/1", "a", (), "?", (), "42", kind="cloze")
    secret = Question("a/2", "a", (), "?", ("x", "y"), "")
    made = permuted(task(several, cloze, secret))
    assert list(made.items) == [several, cloze, secret]
    assert robustness([Sample(several, "letters", "AB", "A", False)])["single"] == 1


def test_a_model_that_knows_is_consistent_and_unbiased() -> None:
    found = robustness(answered(permuted(task(question(0, "B"), question(1, "D"))).items, lambda one: one.gold))
    assert (found["n"], found["accuracy"], found["mean"], found["consistency"], found["recall_sd"]) == (2, [1.0] * 4, 1.0, 1.0, 0.0)
    assert found["places"]["C"] == {"chosen": 0.25, "right": 0.25, "recall": 1.0}


def test_a_model_that_always_says_a_scores_chance_and_is_found_out() -> None:
    found = robustness(answered(permuted(task(*(question(i, "A") for i in range(5)))).items, lambda one: "A"))
    assert found["accuracy"] == [1.0, 0.0, 0.0, 0.0]
    assert (found["mean"], found["consistency"]) == (0.25, 0.0)
    assert found["places"]["A"] == {"chosen": 1.0, "right": 0.25, "recall": 1.0}
    assert found["recall_sd"] == pytest.approx(3**0.5 / 4)


def test_a_model_that_sticks_to_a_wrong_text_is_consistent() -> None:
    found = robustness(answered(permuted(task(question(0, "A"))).items, lambda one: LETTERS[one.options.index("star")]))
    assert (found["mean"], found["consistency"]) == (0.0, 1.0)


def test_questions_unscored_in_one_order_are_counted_and_left_out() -> None:
    samples = answered(permuted(task(question(0), question(1))).items, lambda one: one.gold)
    samples[5] = Sample(samples[5].item, "letters", "B", reason="too long")
    found = robustness(samples)
    assert (found["n"], found["unscored"], found["mean"]) == (1, 1, 1.0)
    assert [sample.item.id for sample in unpermuted(samples)] == ["space/0", "space/1"]


def test_finding_no_answer_in_any_order_is_not_consistent() -> None:
    assert robustness(answered(permuted(task(question(0))).items, lambda one: None))["consistency"] == 0.0


def test_nothing_scored_is_no_robustness() -> None:
    found = robustness([])
    assert (found["n"], found["mean"], found["consistency"], found["places"]) == (0, None, None, {})


def test_guessing_counts_each_question_once_however_many_orders_it_has(run: Run, tmp_path: Path) -> None:
    rows = [{"q": "One?", "o": ["a", "b"], "right": "A"}, {"q": "Two?", "o": ["v", "w", "x", "y", "z"], "right": "C"}]
    write_jsonl(tmp_path / "own/test.jsonl", rows)
    spec = "name: own\nkind: choice\ndata: test.jsonl\ncolumns: {question: q, options: o, gold: right}"
    (tmp_path / "own/task.yaml").write_text(spec, encoding="utf-8")
    settings = Settings(permute=True, out=tmp_path / "out")
    result = evaluate(run.checkpoint("sft"), Wanted([str(tmp_path / "own")]), settings).result
    assert result is not None
    found = result.tasks["own.choice"]
    score = found.methods["letters"]
    guessing = (1 / 2 + 1 / 5) / 2
    assert (found.model_extra or {})["chance"] == pytest.approx(guessing)
    assert (score.model_extra or {})["over_chance"] == pytest.approx(((score.value or 0.0) - guessing) / (1 - guessing))


def test_a_permuted_run_has_the_score_of_an_ordinary_one_and_says_more(run: Run, tmp_path: Path) -> None:
    wanted = Wanted(["pocket.choice"], methods=["letters", "perplexity"])
    plain, turned = (
        evaluate(run.checkpoint("sft"), wanted, Settings(permute=permute, out=tmp_path / str(permute))).result for permute in (False, True)
    )
    assert plain is not None
    assert turned is not None
    before, after = plain.tasks["pocket.choice"], turned.tasks["pocket.choice"]
    for name in ("chance", "majority", "shots_used", "unscored_reasons"):
        assert getattr(before, name) == getattr(after, name)
    for method, score in after.methods.items():
        assert score.value == before.methods[method].value
        found = (score.model_extra or {})["permutation"]
        assert (found["n"], len(found["accuracy"])) == (8, 4)
        assert found["accuracy"][0] == score.micro
    ids = [line.id for line in read(tmp_path / "True").lines("pocket.choice", "letters", permuted=True)]
    assert len(set(ids)) == len(ids) == 32
