"""Agreement finds the same replies whoever compared them, in whichever order, and is worth what its formulas say."""

from __future__ import annotations

import pytest

from evalkit.judge import agreement
from evalkit.judge.verdicts import Winner
from modelkit.records import Answered, Judgment


def judgment(number: int, winner: Winner | None, swapped: bool = False, judge: str = "x", score: float | None = None) -> Judgment:
    answers = [Answered(model=name, fingerprint=name, characters=1, sha256=f"{number}{name}") for name in "ab"]
    if score is not None:
        return Judgment(id="", judge=judge, mode="single", prompt=str(number // 2), answers=answers[:1], score=score, language="en")
    shown = answers[::-1] if swapped else answers
    said: Winner | None = {"a": "b", "b": "a"}.get(winner or "", winner) if swapped else winner  # type: ignore[assignment]
    category = "chat" if number % 2 else "code"
    return Judgment(id="", judge=judge, mode="pairwise", prompt=str(number), answers=shown, winner=said, category=category, language="zh")


def opinions(winners: str, swapped: bool = False) -> agreement.Opinions:
    names: dict[str, Winner] = {"a": "a", "b": "b", "=": "tie"}
    return agreement.of_judgments([judgment(i, names.get(one), swapped) for i, one in enumerate(winners)], "x")


def test_the_order_in_which_two_replies_were_shown_does_not_matter() -> None:
    (row, *_) = agreement.compare(opinions("aabb=="), opinions("aabb==", swapped=True))
    assert (row.n, row.equal, row.kappa, row.decided, row.decided_equal) == (6, 1.0, 1.0, 4, 1.0)


def test_kappa_is_agreement_beyond_chance() -> None:
    # Cohen's own kind of table: 20 both yes, 5 and 10 apart, 15 both no: p_o = .7, p_e = .5
    table: list[tuple[Winner, Winner, int]] = [("a", "a", 20), ("a", "b", 5), ("b", "a", 10), ("b", "b", 15)]
    pairs = [(ours, theirs) for ours, theirs, times in table for _ in range(times)]
    assert agreement.kappa(pairs) == pytest.approx(0.4)
    assert agreement.kappa([("a", "a")] * 5) is None
    assert agreement.kappa([("a", "b"), ("b", "a")]) == -1.0


def test_rows_by_language_and_category_add_up() -> None:
    rows = {row.group: row for row in agreement.compare(opinions("abab=?"), opinions("abba=a"))}
    assert set(rows) == {"all", "zh", "chat", "code"}
    assert rows["all"].n == rows["zh"].n == 5  # one has no verdict
    assert rows["chat"].n + rows["code"].n == 5
    assert opinions("?").left_out == {"no verdict": 1}


def test_scores_are_preferences_and_can_be_correlated() -> None:
    mine = agreement.of_judgments([judgment(i, None, score=score) for i, score in enumerate([1, 5, 7, 3])], "mine")
    yours = agreement.of_judgments([judgment(i, None, score=score) for i, score in enumerate([2, 9, 10, 4])], "yours")
    (row, *_) = agreement.compare(mine, yours)
    assert (row.n, row.equal) == (2, 1.0)  # answers to one prompt are compared, others aren't
    assert agreement.correlation(mine, yours) == (4, pytest.approx(1.0))
