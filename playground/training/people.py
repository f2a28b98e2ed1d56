"""From people's votes to a reward model: what there is to train on, the training, and whether it agrees with people more than before."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from evalkit.statistics import Interval, mcnemar, wilson
from leaderboards.votes.export import no_preference, part_of, write_preferences
from modelkit.errors import UserError
from modelkit.records import Vote
from playground.entries import Entry
from playground.models import Models
from playground.training.jobs import AGREEMENT, Job, Jobs
from trainers.recipe import Mixture, Recipe, RewardStage

ROWS = "votes.jsonl"
STEPS = 60
_LR = 1e-4
"""A tenth of what the pocket reward model begins with: few votes are to move it, not to replace what it knows."""


class Votes(Protocol):
    """Where votes come from: a :class:`leaderboards.votes.store.Store`."""

    def votes(self, status: str | None = None) -> Iterable[Vote]: ...

    def counts(self) -> dict[str, int]: ...


@dataclass(frozen=True)
class Ballots:
    """How many votes wait, are accepted and rejected; of the accepted ones, how many are rows to train on and to measure agreement on."""

    new: int
    accepted: int
    rejected: int
    training: int
    held_out: int


@dataclass(frozen=True)
class Share:
    """Votes that a reward model agrees with, of all that it could score, with Wilson's 95 % interval."""

    agreed: int
    n: int
    interval: Interval


@dataclass(frozen=True)
class Agreement:
    """A reward model before and after it was trained on votes, on held-out ones; ``p`` by McNemar's exact test."""

    job: str
    before: Share
    after: Share
    p: float


def ballots(store: Votes) -> Ballots:
    """Count the votes. Ties and the like are accepted, but prefer nothing that could be learnt."""
    counts = store.counts()
    accepted = [vote for vote in store.votes("accepted") if no_preference(vote) is None]
    training = sum(1 for _ in part_of(accepted, "train"))
    new, taken, rejected = (counts.get(status, 0) for status in ("new", "accepted", "rejected"))
    return Ballots(new, taken, rejected, training, len(accepted) - training)


def judges(models: Models) -> list[Entry]:
    """The reward models that can be trained further."""
    return [entry for entry in models.catalogue() if entry.kind == "reward" and not entry.is_copy]


def train(store: Votes, models: Models, jobs: Jobs, judge: str, steps: int, folder: Path) -> Job:
    """Put a training of the reward model called *judge* on the accepted votes into the queue.

    :param folder: where the votes' rows may be written until the job has its copy.
    :raises UserError: when there is nothing to train on, or the job can't be made.
    """
    entry = next((entry for entry in judges(models) if entry.id == judge), None)
    if entry is None:
        raise UserError("this reward model is not in the list: choose one of those offered.")
    if not 1 <= steps <= 10_000:
        raise UserError(f"{steps:,} steps are out of bounds: choose 1 to 10,000.")
    accepted = list(store.votes("accepted"))
    rows = folder / ROWS
    if not write_preferences(part_of(accepted, "train"), rows)["rows"]:
        raise UserError("no accepted vote prefers a reply, so there is nothing to train on: accept some with `leaderboards votes accept`.")
    comparable = any(no_preference(vote) is None for vote in part_of(accepted, "held-out"))
    job = Job(
        name=jobs.free_name("votes"), submitted=time.time(), base=entry.path, data=True, compared_with=entry.path if comparable else None
    )
    section = RewardStage(data=[Mixture(path=ROWS)], steps=steps, lr=_LR, held_out=0.0, save_every=max(1, steps // 4))
    languages = entry.run.info.languages if entry.run else ["en"]
    jobs.submit(job, Recipe(name=job.name, languages=languages, rm=section), {ROWS: rows})
    return job


def agreements(jobs: Jobs) -> list[Agreement]:
    """What was measured for every reward model that was trained on votes, the newest first."""
    found = ((job, jobs.run(job.name) / AGREEMENT) for job in reversed(jobs.ordered()) if job.compared_with)
    return [_read(job, file) for job, file in found if file.is_file()]


def _read(job: Job, file: Path) -> Agreement:
    """What ``leaderboards votes agreement --out`` has written: a row for every vote and model."""
    agreed: dict[str, dict[str, bool | None]] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        agreed.setdefault(row["model"], {})[row["vote"]] = row["agreed"]
    before = agreed.pop(str(job.compared_with))
    (after,) = agreed.values()
    both = [(before[vote], after[vote]) for vote in before if before[vote] is not None and after[vote] is not None]
    return Agreement(
        job.name, _share(before.values()), _share(after.values()), mcnemar(both.count((True, False)), both.count((False, True)))
    )


def _share(agreed: Iterable[bool | None]) -> Share:
    known = [one for one in agreed if one is not None]
    return Share(sum(known), len(known), wilson(sum(known), len(known)) if known else (0.0, 1.0))
