"""How often does a reward model agree with people? Measured on their votes, before and after it was trained on others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from leaderboards.votes.export import no_preference
from modelkit.errors import UserError
from modelkit.records import MethodScore, Vote

if TYPE_CHECKING:
    from evalkit.types import Sample

FEWEST_VOTES = 30
"""Of fewer votes a share says little: its 95 % interval is wider than a third."""


@dataclass(frozen=True)
class Verdict:
    """What a reward model says of one vote: its rewards for the reply preferred and for the other, or why there are none."""

    vote: str
    chosen: float | None
    rejected: float | None
    agreed: bool | None
    reason: str | None


def agreement(votes: Iterable[Vote], reward_model: Path) -> tuple[MethodScore, list[Verdict]]:
    """Score both replies of every vote that prefers one, as ``evalkit`` ranks pairs.

    The score is the share of votes that the reward model agrees with, with Wilson's 95 % interval; equal rewards don't agree.
    Beside it stands ``length_baseline``, what preferring the longer reply would reach. A reply that is longer than the reward
    model's context leaves its vote unscored.

    :raises UserError: when no vote prefers one of its replies, or the checkpoint is no reward model.
    """
    from evalkit.bench import Bench
    from evalkit.methods import Record, pairs
    from evalkit.models import local
    from evalkit.preparation import default_dtype
    from evalkit.types import PairRow, PairsTask
    from modelkit.device import choose_device, dtype_of
    from modelkit.fingerprint import fingerprint

    items = [
        PairRow(id=vote.id, messages=vote.prompt, chosen=vote.decided[0].reply, rejected=vote.decided[1].reply)
        for vote in votes
        if vote.decided and no_preference(vote) is None
    ]
    if not items:
        raise UserError("none of these votes prefers one reply: collect and accept some, or name another part with --part.")
    device = choose_device()
    model = local.load(reward_model, "reward", dtype_of(default_dtype(device.type)), device)
    samples: dict[str, Sample] = {}
    record = Record({item.id for item in items}, lambda some: samples.update({sample.item.id: sample for sample in some}))
    task = PairsTask("votes", "", items)
    pairs.measure(task, items, Bench(reward_model, fingerprint(reward_model), model), record)
    ordered = [samples[item.id] for item in items]
    return pairs.score(task, ordered), [_verdict(sample) for sample in ordered]


def _verdict(sample: Sample) -> Verdict:
    rewards = sample.extra.get("rewards", {})
    return Verdict(sample.item.id, rewards.get("chosen"), rewards.get("rejected"), sample.correct, sample.reason)
