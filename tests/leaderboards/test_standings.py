from __future__ import annotations

import math
import random
from pathlib import Path

import numpy
import pytest
from scipy.optimize import minimize

from evalkit.ratings import fit
from leaderboards import rated
from leaderboards.board import make_board
from leaderboards.collect import collect
from leaderboards.standings import elo, of_judgings, of_votes, read_votes
from modelkit import atomic
from modelkit.records import Answered, Judgment
from tests.leaderboards.conftest import choice
from tests.leaderboards.voting import vote


def votes(count: int, sft_wins: float = 0.7):
    """Votes between two stages, whose fingerprints differ."""
    draw = random.Random(0)
    for number in range(count):
        one = vote(number, winner="a" if draw.random() < sft_wins else "b")
        sides = {"a": one.a.model_copy(update={"fingerprint": "sha256:s"}), "b": one.b.model_copy(update={"fingerprint": "sha256:r"})}
        yield one.model_copy(update=sides)


def test_ratings_of_votes_equal_a_direct_maximum_likelihood_fit() -> None:
    found = of_votes(votes(200))
    assert found
    wins = sum(game.winner == "a" for game in found.games)
    games = len(found.games)
    direct = minimize(lambda gap: wins * numpy.logaddexp(0, -gap[0]) + (games - wins) * numpy.logaddexp(0, gap[0]), [0.0], tol=1e-12)
    ratings = {row.player: row.rating or math.nan for row in found.ratings.rows}
    assert ratings["sha256:s"] - ratings["sha256:r"] == pytest.approx(400 / numpy.log(10) * direct.x[0], abs=1e-2)


def test_votes_that_do_not_count_are_counted_by_reason() -> None:
    own = list(votes(4))
    spoilt = [own[0].model_copy(update={"status": "rejected"}), own[1].model_copy(update={"blind": False})]
    same = own[2].model_copy(update={"b": own[2].a})
    found = of_votes([*spoilt, same, own[3]])
    assert found
    assert found.left_out == {"rejected": 1, "not blind": 1, "a model against itself": 1}
    assert len(found.games) == 1


def test_a_vote_in_two_exports_put_together_counts_once_as_it_stood_last(tmp_path: Path) -> None:
    one, two = votes(2)
    exported = [one, two, one.model_copy(update={"status": "rejected"})]
    (tmp_path / "votes.jsonl").write_text("".join(vote.model_dump_json() + "\n" for vote in exported))
    found = of_votes(read_votes(tmp_path / "votes.jsonl"))
    assert found
    assert (len(found.games), found.left_out) == (1, {"rejected": 1})


def test_one_sided_votes_unknown_checkpoints_and_few_votes_are_flagged_rows(tmp_path: Path, write_result) -> None:
    write_result(tmp_path / "a", {"t": choice(0.5)}, "sft", "sha256:s")
    board = make_board(collect([tmp_path]))
    one_sided = of_votes(votes(5, sft_wins=1.0))
    few = of_votes(votes(20))
    assert one_sided
    assert few
    first = [row.fields[0] for row in rated.ratings(one_sided, board, 0).rows]
    assert [cell.lines[0].en for cell in first if cell] == ["no finite rating: won every game", "no finite rating: lost every game"]
    grid = rated.ratings(few, board, 0)
    assert [[doubt.en for doubt in row.fields[0].doubt] for row in grid.rows if row.fields[0]] == [
        ["too few votes"],
        ["too few votes", "no results of these weights here"],
    ]


def test_agreement_with_people_counts_blind_votes_with_rewards() -> None:
    found = of_votes(votes(100))
    assert found
    [agreement] = found.agreements
    assert agreement.n == 100
    assert agreement.agreed == sum(game.winner == "a" for game in found.games)


def test_elo_moves_by_half_of_k_in_the_first_game_and_keeps_its_mean() -> None:
    found = of_votes(votes(3, sft_wins=1.0))
    assert found
    games = found.games
    history = elo(games)
    assert history["sha256:s"][0] == (1, 1008.0)
    assert sum(points[-1][1] for points in history.values()) == pytest.approx(2000.0)
    assert fit(games).rows[0].rating is None


def test_a_judging_without_judgments_is_named(tmp_path: Path) -> None:
    standings, damaged = of_judgings([tmp_path])
    assert standings == []
    assert "judgments.jsonl" in damaged[0]


def judging(folder: Path, identity: str, winners: dict[str, str | None], name: str = "rm") -> Path:
    """A folder of one judge's verdicts on two stages' answers, by prompt."""
    atomic.write_json(folder / "judging.json", {"judge": {"name": name, "identity": identity, "wording": "sha256:w"}})
    answers = [Answered(model=stage, fingerprint=f"sha256:{stage}", characters=10) for stage in ("sft", "rl")]
    lines = [
        Judgment(id=prompt, judge=name, mode="pairwise", prompt=prompt, answers=answers, winner=winner, unscored=None if winner else "no")
        for prompt, winner in winners.items()
    ]
    atomic.write_text(folder / "judgments.jsonl", "".join(one.model_dump_json() + "\n" for one in lines))
    return folder


def test_judges_of_one_name_are_rated_by_themselves(tmp_path: Path) -> None:
    one = judging(tmp_path / "one", "sha256:1", {"p": "a", "q": "b"})
    two = judging(tmp_path / "two", "sha256:2", {"p": "b"})
    other = judging(tmp_path / "other", "sha256:3", {"p": "a"}, name="gpt")
    standings, damaged = of_judgings([one, two, other])
    assert damaged == []
    assert [len(standing.games) for standing in standings] == [2, 1, 1]
    names = [standing.judge or "" for standing in standings]
    assert names[2] == "gpt"
    assert names[0] != names[1]
    assert all(name.startswith("rm (") for name in names[:2])


def test_a_verdict_counts_before_a_missing_one_on_the_same_match(tmp_path: Path) -> None:
    failed = judging(tmp_path / "failed", "sha256:1", {"p": None, "q": None})
    again = judging(tmp_path / "again", "sha256:1", {"p": "a"})
    for folders in ([failed, again], [again, failed]):
        [standing], _ = of_judgings(folders)
        assert [game.winner for game in standing.games] == ["a"]
        assert standing.left_out == {"unscored": 1}


def test_a_judging_that_does_not_say_who_judged_is_named(tmp_path: Path) -> None:
    (judging(tmp_path, "sha256:1", {"p": "a"}) / "judging.json").write_text('{"judge": ')
    standings, damaged = of_judgings([tmp_path])
    assert standings == []
    assert "doesn't say who judged" in damaged[0]
