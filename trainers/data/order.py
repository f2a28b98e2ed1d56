"""Which examples form which step: a deterministic function of (seed, step), so that resuming needs no cursor on disk."""

from __future__ import annotations

import itertools
import random
from collections.abc import Hashable, Iterator, Sequence
from typing import TypeVar

from modelkit.errors import UserError
from trainers.seeds import derive

T = TypeVar("T")


def steps(
    lengths: Sequence[int], tokens: int, seed: int, purpose: str, start: int = 0, weights: Sequence[float] | None = None
) -> Iterator[list[int]]:
    """Endless steps of about *tokens* tokens each (at least one example), from reshuffled epochs, beginning with step *start*.

    :param weights: how often an epoch holds each example (:func:`epoch_of`); once, unless given.
    """
    number, epoch = 0, 0
    batch: list[int] = []
    size = 0
    while True:
        order = list(range(len(lengths))) if weights is None else epoch_of(weights, epoch, seed, purpose)
        random.Random(derive(seed, purpose, "order", epoch)).shuffle(order)
        for index in order:
            batch.append(index)
            size += lengths[index]
            if size >= tokens:
                if number >= start:
                    yield batch
                number, batch, size = number + 1, [], 0
        epoch += 1


def epoch_of(weights: Sequence[float], epoch: int, seed: int, purpose: str) -> list[int]:
    """The examples of an epoch, in no meaningful order: one of weight 2.3 twice, and every third to fourth epoch once more.

    Over the epochs all examples of one fractional weight take equal turns: each is drawn again only when all have been.
    """
    chosen = [i for i, weight in enumerate(weights) for _ in range(int(weight))]
    fractions = [weight % 1 for weight in weights]
    for fraction in sorted({fraction for fraction in fractions if fraction}):
        members = [i for i, one in enumerate(fractions) if one == fraction]
        first, end = (int(turn * fraction * len(members)) for turn in (epoch, epoch + 1))
        for lap in range(first // len(members), end // len(members) + 1):
            deal = random.Random(derive(seed, purpose, "turns", str(fraction), lap)).sample(members, len(members))
            begun = lap * len(members)
            chosen += deal[max(0, first - begun) : max(0, end - begun)]
    return chosen


def staged(
    lengths: Sequence[int],
    starts: Sequence[float],
    total: int,
    tokens: int,
    seed: int,
    purpose: str,
    start: int = 0,
    weights: Sequence[float] | None = None,
) -> Iterator[list[int]]:
    """Steps *start* … *total* − 1 of a curriculum: an example takes part once the share ``starts[i]`` of all steps is done.

    :raises UserError: when none takes part in the first step.
    """
    boundaries = sorted({round(share * total) for share in starts} | {total})
    if boundaries[0] > 0:
        raise UserError("the first steps have no row to learn from: leave out the start of a file, or hold out fewer of its rows.")
    for begin, end in itertools.pairwise(boundaries):
        if end <= start:
            continue
        members = [i for i, share in enumerate(starts) if round(share * total) <= begin]
        shares = [weights[i] for i in members] if weights else None
        phase = steps([lengths[i] for i in members], tokens, seed, f"{purpose} from {begin}", max(0, start - begin), shares)
        for _ in range(max(begin, start), end):
            yield [members[i] for i in next(phase)]


def microbatches(indices: Sequence[int], lengths: Sequence[int], tokens: int, slack: float = 0.75, floor: int = 512) -> Iterator[list[int]]:
    """Split a step into batches of similar length: ``rows × longest`` at most *tokens*, little padding, none tiny for nothing.

    A new batch starts when a row is shorter than *slack* of the longest and *floor* tokens are already together.
    """
    batch: list[int] = []
    longest = 0
    for index in sorted(indices, key=lambda i: (-lengths[i], i)):
        full = longest * (len(batch) + 1) > tokens
        wasteful = lengths[index] < slack * longest and longest * len(batch) >= floor
        if batch and (full or wasteful):
            yield batch
            batch, longest = [], 0
        longest = max(longest, lengths[index])
        batch.append(index)
    if batch:
        yield batch


def hold_out(items: Sequence[T], share: float, seed: int, purpose: str) -> tuple[list[T], list[T]]:
    """(training, held-out) items: a fixed random *share* is held out, at least one when the share isn't 0.

    :raises UserError: when a share below 1 comes to all items.
    """
    if share == 0 or len(items) < 2:
        return list(items), []
    count = max(1, round(len(items) * share))
    if share < 1 and count == len(items):
        raise UserError(f"held_out: {share} of {count} rows is all of them, so nothing is left to learn from: set it lower.")
    chosen = set(random.Random(derive(seed, purpose, "held out")).sample(range(len(items)), count))
    return [item for i, item in enumerate(items) if i not in chosen], [items[i] for i in sorted(chosen)]


def hold_out_whole(items: Sequence[T], owners: Sequence[Hashable], share: float, seed: int, purpose: str) -> tuple[list[T], list[T]]:
    """The same for items that have owners (``owners[i]`` that of item *i*): those of one owner stay together, or what is held out
    would be trained on."""
    _, chosen = hold_out(list(dict.fromkeys(owners)), share, seed, purpose)
    apart = set(chosen)
    sides: tuple[list[T], list[T]] = ([], [])
    for item, owner in zip(items, owners, strict=True):
        sides[owner in apart].append(item)
    return sides
