"""From votes to a reward model that agrees with people, and the numbers that show it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from leaderboards.votes.export import held_out
from leaderboards.votes.store import Store
from modelkit.chat import Message
from modelkit.errors import UserError
from modelkit.fingerprint import sha256_of_messages
from modelkit.records import Side, Vote
from playground.models import Models
from playground.training import job_cards, people
from playground.training.jobs import AGREEMENT, Jobs
from trainers.reading import load


def vote(number: int, winner: str = "a") -> Vote:
    """A vote for the reply that is polite."""
    prompt = Message(role="user", content=f"What is {number} plus 2?")
    sides = []
    for reply in (f"It is {number + 2}, gladly.", "No."):
        messages = [prompt, Message(role="assistant", content=reply)]
        sides.append(Side(checkpoint="pocket/sft", fingerprint="sha256:0", messages=messages, sha256=sha256_of_messages(messages)))
    return Vote(id=f"{number:016x}", time=float(number), session="s", a=sides[0], b=sides[1], winner=winner, seconds=60.0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Forty accepted votes, a tie among them, and one that is new."""
    store = Store(f"sqlite:///{tmp_path / 'votes.sqlite'}")
    for number in range(41):
        store.add(vote(number, "tie" if number == 0 else "a"))
    store.accept([f"{number:016x}" for number in range(40)])
    yield store
    store.close()


@pytest.fixture
def jobs(tmp_path: Path) -> Jobs:
    """A queue in which nothing begins."""
    runs = tmp_path / "runs"
    runs.mkdir()
    return Jobs(runs, 1, others=lambda: 1)


def test_votes_are_counted_by_what_can_be_learnt_from_them(store: Store) -> None:
    kept_apart = sum(held_out(vote(number)) for number in range(1, 40))
    assert 0 < kept_apart < 39
    assert people.ballots(store) == people.Ballots(1, 40, 0, 39 - kept_apart, kept_apart)


def test_accepted_votes_become_a_training_of_the_reward_model(store: Store, models: Models, jobs: Jobs, tmp_path: Path) -> None:
    job = people.train(store, models, jobs, "pocket/rm", 20, tmp_path)
    run = jobs.run(job.name)
    judge = models.entry("pocket/rm").path
    assert (job.base, job.compared_with) == (judge, judge)
    rows = [json.loads(line) for line in (run / "data" / people.ROWS).read_text().splitlines()]
    assert len(rows) == people.ballots(store).training
    assert all(row["rejected"] == "No." for row in rows)
    recipe = load(run / "recipe.yaml")
    assert list(recipe.stages) == ["rm"]
    assert recipe.stages["rm"].steps == 20
    assert people.train(store, models, jobs, "pocket/rm", 20, tmp_path).name != job.name


def test_without_accepted_votes_or_a_reward_model_there_is_nothing_to_train(
    store: Store, models: Models, jobs: Jobs, tmp_path: Path
) -> None:
    for judge, steps, says in (("pocket/sft", 20, "not in the list"), ("../rm", 20, "not in the list"), ("pocket/rm", 0, "out of bounds")):
        with pytest.raises(UserError, match=says):
            people.train(store, models, jobs, judge, steps, tmp_path)
    store.reject([f"{number:016x}" for number in range(40)])
    with pytest.raises(UserError, match="no accepted vote prefers"):
        people.train(store, models, jobs, "pocket/rm", 20, tmp_path)
    assert jobs.ordered() == []


def test_agreement_is_shown_before_and_after(store: Store, models: Models, jobs: Jobs, tmp_path: Path) -> None:
    assert people.agreements(jobs) == []
    job = people.train(store, models, jobs, "pocket/rm", 20, tmp_path)
    said = {str(job.compared_with): [True, False, False, None], str(jobs.run(job.name) / "rm"): [True, True, True, None]}
    rows = [{"model": model, "vote": str(i), "agreed": one} for model, all_of in said.items() for i, one in enumerate(all_of)]
    (jobs.run(job.name) / AGREEMENT).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (found,) = people.agreements(jobs)
    assert (found.before.agreed, found.before.n, found.after.agreed, found.after.n) == (1, 3, 3, 3)
    assert found.p == 0.5
    shown = job_cards.agreement("en", [found])
    assert "33 % [6, 79] of 3" in shown
    assert "too few to tell" in shown


def test_a_model_that_learnt_from_another_runs_is_judged_and_written_for_there(finished_run: Path, tmp_path: Path) -> None:
    from modelkit.checkpoint import StageInfo
    from modelkit.run import Run, RunInfo, Stage
    from tests.playground import fake_run

    for name, kind, parent in (("mine", "rl", "rl"), ("votes-1", "reward", "rm")):
        stage = next(stage for stage in fake_run.STAGES if stage.name == parent)
        Run.create(tmp_path / name, RunInfo(name=name, recipe="", languages=["en"], stages=[Stage(name=parent, kind=kind, title={})]))
        fake_run.write_checkpoint(tmp_path / name, stage)
        note = StageInfo(stage=parent, parent=str(finished_run / parent))
        (tmp_path / name / parent / "stage.json").write_text(note.model_dump_json())
    models = Models([finished_run.parent, tmp_path], 1 << 30)
    judge, writer = models.sibling(models.entry("mine/rl"), "reward"), models.sibling(models.entry("votes-1/rm"), "sft")
    assert judge is not None
    assert writer is not None
    assert (judge.id, writer.id) == ("pocket/rm", "pocket/sft")
    assert models.defaults() == ["pocket/base", "pocket/sft", "pocket/rm", "pocket/rl"]
