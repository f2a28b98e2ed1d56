"""A task cut into units, and units dealt out to processes.

A unit is what a method measures at once. Units depend on the task alone, never on how many processes there are or what is done
already, so that every question is always computed in the same company.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from evalkit.types import Item, Question
from modelkit.errors import UserError

_MOST = 256
_FEW = 64


@dataclass(frozen=True)
class Share:
    """The part of process *rank* (from 0) of *world* processes."""

    rank: int = 0
    world: int = 1


def share_of_environment() -> Share:
    """What ``RANK`` and ``WORLD_SIZE`` say, as torchrun sets them; everything where they aren't set.

    :raises UserError: when they make no sense.
    """
    rank, world = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    if not (rank.isdigit() and world.isdigit() and int(rank) < int(world)):
        raise UserError(f"RANK={rank} and WORLD_SIZE={world} make no sense: ranks count from 0 up to one less than WORLD_SIZE.")
    return Share(int(rank), int(world))


def units(items: Sequence[Item]) -> list[list[Item]]:
    """Cut *items* into units of whole subjects, since the questions of a subject share the beginning of their prompts.

    A subject of more than 256 items is cut into equal pieces; small neighbours are put together up to 64. Questions that one
    prompt asks together stay together.
    """
    found: list[list[Item]] = []
    for _, group in groupby(items, key=lambda item: item.subject):
        for piece in _pieces(list(group)):
            if found and len(found[-1]) + len(piece) <= _FEW:
                found[-1] += piece
            else:
                found.append(piece)
    return found


def dealt(parts: Sequence[list[Item]], share: Share) -> list[list[Item]]:
    """The units of one process, in order: the longest unit goes to whoever has least (Graham 1969), length being in characters."""
    if share.world == 1:
        return list(parts)
    sizes = [sum(_size(item) for item in unit) for unit in parts]
    loads = [0] * share.world
    mine = []
    for i in sorted(range(len(parts)), key=lambda i: (-sizes[i], i)):
        least = loads.index(min(loads))
        loads[least] += sizes[i]
        if least == share.rank:
            mine.append(i)
    return [parts[i] for i in sorted(mine)]


def _pieces(items: list[Item]) -> list[list[Item]]:
    count = -(-len(items) // _MOST)
    cuts = [0]
    for k in range(1, count):
        cut = len(items) * k // count
        while cut < len(items) and isinstance(item := items[cut], Question) and item.part > 0:
            cut += 1
        cuts.append(max(cut, cuts[-1]))
    return [piece for start, end in zip(cuts, [*cuts[1:], len(items)], strict=True) if (piece := items[start:end])]


def _size(item: Item) -> int:
    if isinstance(item, Question):
        return len(item.passage) + len(item.text) + sum(map(len, item.options))
    return len(item.model_dump_json())
