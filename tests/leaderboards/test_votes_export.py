"""Votes as files: the rows that trainers and evalkit read, and none that say nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from leaderboards.votes.export import held_out, no_preference, part_of, write_preferences, write_records
from modelkit.records import Vote
from tests.leaderboards.voting import vote
from trainers.data.formats import load


def test_a_vote_becomes_the_row_that_trainers_read(tmp_path: Path) -> None:
    votes = [vote(1, "巴黎", "Lyon"), vote(2, winner="b", category="capitals")]
    counted = write_preferences(votes, tmp_path / "out.jsonl")
    loaded = load(tmp_path / "out.jsonl", "preference", strict=True)
    assert counted == {"rows": 2}
    assert [(row["chosen"], row["rejected"]) for row in loaded.rows] == [("巴黎", "Lyon"), ("It is Lyon.", "Paris.")]
    assert loaded.rows[1] == {
        "messages": [{"role": "user", "content": "Question 2?"}],
        "chosen": "It is Lyon.",
        "rejected": "Paris.",
        "source": "votes",
        "category": "capitals",
    }


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (vote(1, winner="tie"), "tie"),
        (vote(1, winner="both_bad"), "both bad"),
        (vote(1, "same", "same"), "equal replies"),
        (vote(1, " ", "y"), "an empty reply"),
        (vote(1, "x\0", "y"), "a NUL character"),
        (vote(1).model_copy(update={"b": vote(2).b}), "different prompts"),
    ],
)
def test_a_vote_that_prefers_nothing_is_counted_and_gives_no_row(given: Vote, why: str, tmp_path: Path) -> None:
    assert no_preference(given) == why
    assert write_preferences([given], tmp_path / "out.jsonl") == {"rows": 0, why: 1}
    assert (tmp_path / "out.jsonl").read_text() == ""


def test_the_parts_are_disjoint_cover_everything_and_share_no_prompt() -> None:
    votes = [vote(number, prompt=f"Question {number % 100}?") for number in range(300)]
    train, held = list(part_of(votes, "train")), list(part_of(votes, "held-out"))
    assert len(train) + len(held) == len(list(part_of(votes, "all"))) == 300
    assert 0.1 < len(held) / 300 < 0.3
    assert not {one.prompt[0]["content"] for one in train} & {one.prompt[0]["content"] for one in held}
    assert all(map(held_out, held))


def test_exported_votes_are_read_back_as_they_were(tmp_path: Path) -> None:
    votes = [vote(1, "巴黎 \u2028 \0 \n"), vote(2, winner="tie", rewards=None)]
    assert write_records(votes, tmp_path / "votes.jsonl") == 2
    lines = (tmp_path / "votes.jsonl").read_text(encoding="utf-8").rstrip("\n").split("\n")
    assert [Vote.model_validate_json(line) for line in lines] == votes


def test_a_failing_export_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    def broken():
        yield vote(1)
        raise RuntimeError("the store went away")

    (tmp_path / "out.jsonl").write_text("before\n")
    with pytest.raises(RuntimeError):
        write_preferences(broken(), tmp_path / "out.jsonl")
    assert [file.name for file in tmp_path.iterdir()] == ["out.jsonl"]
    assert (tmp_path / "out.jsonl").read_text() == "before\n"
