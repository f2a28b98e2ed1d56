"""Comparing two results: the numbers, the flips, and what may not be compared."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from evalkit.compare import compare
from evalkit.comparison_table import write_flips
from evalkit.tasks.cmmlu import OFFICIAL
from modelkit.errors import UserError
from tests.evalkit.answered import result
from tests.evalkit.command import assert_one_sentence, evalkit

GOLD = {"law": "ABCDABCD", "physics": "AAAA"}
A = {"law": "ABCDBBBB", "physics": "BBBB"}  # right: ABCD of law, its second B
B = {"law": "BBCDABCD", "physics": "AAAB"}  # right: all of law but the first, physics but the last


def test_shares_flips_and_tests_by_hand(tmp_path: Path) -> None:
    ((one,), notes) = compare(result(tmp_path / "a", GOLD, A), result(tmp_path / "b", GOLD, B))
    assert (one.task, one.method, one.average, notes, one.dropped) == ("mmlu@hendrycks", "letters", "micro", [], {})
    assert (one.whole.n, one.whole.only_a, one.whole.only_b) == (12, 1, 6)
    assert (one.whole.a, one.whole.b) == pytest.approx((5 / 12, 10 / 12))
    assert one.whole.p == pytest.approx(2 * (1 + 7) / 2**7)
    low, high = one.whole.ci95
    assert one.whole.difference == pytest.approx(5 / 12)
    assert low < one.whole.difference < high
    law, physics = one.subjects["law"], one.subjects["physics"]
    assert (law.only_a, law.only_b, physics.only_a, physics.only_b) == (1, 3, 0, 3)
    assert (physics.p, law.p) == pytest.approx((2 * 0.25, 0.625))
    assert {(flip.id, flip.right, flip.a, flip.b) for flip in one.flips if flip.id.startswith("physics")} == {
        (f"physics/{i}", "b", "B", "A") for i in range(3)
    }
    assert {round(flip.gain or 0, 6) for flip in one.flips} == {0.6, -0.6}


def test_the_better_side_swaps_with_the_order(tmp_path: Path) -> None:
    a, b = result(tmp_path / "a", GOLD, A), result(tmp_path / "b", GOLD, B)
    ((forth,), _), ((back,), _) = compare(a, b), compare(b, a)
    assert forth.whole.difference == pytest.approx(-back.whole.difference)
    assert forth.whole.p == back.whole.p
    assert forth.whole.ci95 == pytest.approx([-bound for bound in reversed(back.whole.ci95)], abs=0.05)


def test_a_result_does_not_differ_from_itself(tmp_path: Path) -> None:
    a = result(tmp_path / "a", GOLD, A)
    ((one,), _) = compare(a, a)
    assert (one.whole.difference, one.whole.ci95, one.whole.p, one.flips) == (0.0, (0.0, 0.0), 1.0, [])


def test_a_macro_benchmark_is_compared_by_its_macro_averages(tmp_path: Path) -> None:
    gold = {"law": GOLD["law"], "agronomy": "AAAA"}
    a = result(tmp_path / "a", gold, {"law": A["law"], "agronomy": A["physics"]}, "cmmlu@official", OFFICIAL)
    b = result(tmp_path / "b", gold, {"law": B["law"], "agronomy": B["physics"]}, "cmmlu@official", OFFICIAL)
    ((one,), _) = compare(a, b)
    assert one.average == "macro"
    assert (one.whole.a, one.whole.b) == pytest.approx(((5 / 8 + 0) / 2, (7 / 8 + 3 / 4) / 2))
    assert one.whole.a == a.result.tasks["cmmlu@official"].methods["letters"].value


def test_questions_that_one_could_not_score_are_left_out_and_counted(tmp_path: Path) -> None:
    a = result(tmp_path / "a", {"law": "AB"}, {"law": ".B"})
    ((one,), _) = compare(a, result(tmp_path / "b", {"law": "AB"}, {"law": "AB"}))
    assert (one.whole.n, one.dropped) == (1, {"unscored in one": 1})


@pytest.mark.parametrize(
    ("other", "complaint"),
    [
        ({"data": "sha256:other"}, "different data"),
        ({"protocol": OFFICIAL}, "two protocols"),
        ({"task": "mmlu@lm-eval"}, "nothing to compare"),
    ],
)
def test_other_data_and_protocols_are_refused(tmp_path: Path, other: dict, complaint: str) -> None:
    result(tmp_path / "a", {"law": "AB"}, {"law": "AB"})
    result(tmp_path / "b", {"law": "AB"}, {"law": "AB"}, **other)
    assert_one_sentence(evalkit("compare", tmp_path / "a", tmp_path / "b"), complaint)


def test_common_pairs_the_questions_that_both_have(tmp_path: Path) -> None:
    a = result(tmp_path / "a", {"law": "ABCD", "art": "AA"}, {"law": "ABCD", "art": "AA"}, data="sha256:one")
    b = result(tmp_path / "b", {"law": "ABDD"}, {"law": "AAAA"}, data="sha256:other")
    with pytest.raises(UserError, match="different data"):
        compare(a, b)
    ((one,), _) = compare(a, b, common=True)
    assert (one.whole.n, one.whole.only_a, one.dropped) == (3, 2, {"not in both": 3})


def test_fewer_questions_of_the_same_data_need_common(tmp_path: Path) -> None:
    a, b = result(tmp_path / "a", GOLD, A), result(tmp_path / "b", GOLD, {"law": B["law"]})
    with pytest.raises(UserError, match="4 of 12 questions are not in both"):
        compare(a, b)
    assert compare(a, b, common=True)[0][0].whole.n == 8


def test_what_differs_in_the_asking_is_told(tmp_path: Path) -> None:
    a, b = result(tmp_path / "a", GOLD, A), result(tmp_path / "b", GOLD, B, shots=5, chat=True)
    assert compare(a, b)[1] == ["mmlu@hendrycks: A has shots 0, B has 5", "mmlu@hendrycks: A has chat False, B has True"]


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_flips_are_written_whole(tmp_path: Path, ending: str) -> None:
    compared, _ = compare(result(tmp_path / "a", GOLD, A), result(tmp_path / "b", GOLD, B))
    file = tmp_path / f"flips.{ending}"
    assert write_flips(compared, file) == 7
    text = file.read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()] if ending == "jsonl" else list(csv.DictReader(text.splitlines()))
    assert [row["id"] for row in rows] == [flip.id for flip in compared[0].flips]
    assert {"task", "method", "gold", "a", "b", "right", "gain"} <= rows[0].keys()


def test_the_command_prints_a_table_and_flips_and_writes_them(tmp_path: Path) -> None:
    result(tmp_path / "a", GOLD, A)
    result(tmp_path / "b", GOLD, B)
    done = evalkit("compare", tmp_path / "a", tmp_path / "b" / "results.json", "--flips", 3, "--out", tmp_path / "flips.jsonl", "--seed", 1)
    assert done.exit_code == 0, done.stderr
    for text in ("+41.7", "0.1250", "physics", "McNemar", "Δ p(gold)", "7 flipped questions"):
        assert text in done.stdout
    assert done.stdout.count("physics/") + done.stdout.count("law/") == 3
    assert "\x1b" not in done.stdout


def test_mistakes_get_one_sentence(tmp_path: Path) -> None:
    a = result(tmp_path / "a", GOLD, A)
    assert_one_sentence(evalkit("compare", a.folder, tmp_path), "is no result", status=4)
    assert_one_sentence(evalkit("compare", a.folder, a.folder, "--out", tmp_path / "flips.txt"), "should end in .jsonl or .csv")
    negative = evalkit("compare", a.folder, a.folder, "--seed", -1)
    assert (negative.exit_code, "--seed" in negative.stderr) == (2, True)
    samples = a.folder / "samples" / "mmlu@hendrycks.jsonl"
    samples.write_text(samples.read_text(encoding="utf-8") + '{"id": 3}\n', encoding="utf-8")
    assert_one_sentence(evalkit("compare", a.folder, a.folder), "mmlu@hendrycks.jsonl:13 is no sample", status=4)
    samples.unlink()
    assert_one_sentence(evalkit("compare", a.folder, a.folder), "is missing", "run the evaluation again", status=4)
