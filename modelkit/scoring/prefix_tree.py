"""Token sequences → the tree of their common beginnings, and the order in which to compute each of its tokens once.

Few-shot questions of a subject begin with the same header and shots, the options of a question with the same question. In the
tree every shared token stands once, at whatever level it is shared. Knows no model: tokens in, a plan out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

Ids = Sequence[int]


@dataclass
class Node:
    """The tokens ``start…end`` of a sequence, shared by all sequences of its subtree.

    :param reads: (position, sequence, slot): after which tokens of this node somebody wants to know what comes next.
    :param size: tokens in the subtree.
    :param leaves: sequences in the subtree.
    """

    sequence: int
    start: int
    end: int
    parent: Node | None = None
    children: list[Node] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    reads: list[tuple[int, int, int]] = field(default_factory=list)
    size: int = 0
    leaves: int = 0

    def subtree(self) -> Iterator[Node]:
        """This node and all below it, parents first, each branch in one piece."""
        stack = [self]
        while stack:
            node = stack.pop()
            yield node
            stack.extend(reversed(node.children))

    @property
    def branches(self) -> bool:
        """Whether the subtree is more than a single chain of tokens."""
        node = self
        while len(node.children) == 1:
            node = node.children[0]
        return bool(node.children)


def build(sequences: Sequence[Ids], positions: Sequence[Sequence[int]], members: Sequence[int] | None = None) -> list[Node]:
    """The roots of the tree over *sequences* (none empty), with the wanted *positions* of each noted where they are computed.

    :param members: the places of those that the tree is over; all by default.
    """
    arrays = {i: np.asarray(sequences[i], dtype=">u4") for i in (range(len(sequences)) if members is None else members)}
    keys = {i: array.tobytes() for i, array in arrays.items()}  # big-endian, so that bytes sort as tokens do
    roots: list[Node] = []
    path: list[Node] = []
    before = None
    for i in sorted(arrays, key=keys.__getitem__):
        common = _common(arrays[before], arrays[i]) if before is not None else 0
        before = i
        while path and path[-1].start >= common:
            path.pop()
        if path and path[-1].end > common:
            _split(path[-1], common)
        if common < len(sequences[i]):
            node = Node(i, common, len(sequences[i]), path[-1] if path else None)
            (path[-1].children if path else roots).append(node)
            path.append(node)
        path[-1].ends.append(i)
    for root in roots:
        for node in reversed(list(root.subtree())):
            node.size = node.end - node.start + sum(child.size for child in node.children)
            node.leaves = len(node.ends) + sum(child.leaves for child in node.children)
            _note(node, positions)
    return roots


@dataclass
class Step:
    """Something to compute after a *prefix* whose keys and values are at hand (``None``: after nothing).

    :param keep: a node whose own keys and values later steps build on; else the *units*, subtrees that nobody needs afterwards.
    """

    prefix: Node | None
    keep: Node | None = None
    units: list[Node] = field(default_factory=list)


def plan(roots: Sequence[Node], unit: int, worth: int) -> Iterator[Step]:
    """Depth first, what to compute: subtrees of at most *unit* tokens as a whole, the beginnings of larger ones by themselves.

    A beginning is computed by itself only if sharing it saves at least *worth* tokens; else it is repeated for each of its
    branches, which is cheaper than a pass over the whole model for a handful of tokens. Steps on a prefix come between the one that
    keeps it and the first one that builds on something above it.
    """
    todo: list[tuple[Node | None, list[Node]]] = [(None, list(roots))]
    shared: list[tuple[Node | None, Node]] = []
    while todo:
        prefix, nodes = todo.pop()
        units = []
        while nodes:
            node = nodes.pop()
            if node.size <= unit or not node.children:
                units.append(node)
            elif (node.end - node.start) * (node.leaves - 1) < worth:
                nodes.extend(_repeated(node))
            else:
                shared.append((prefix, node))
        if units:
            yield Step(prefix, units=units)
        if shared:
            prefix, node = shared.pop()
            yield Step(prefix, keep=node)
            todo.append((node, list(node.children)))


def _repeated(node: Node) -> list[Node]:
    """The node's branches, each with the node's own tokens before its own; what is read inside the node is read off a branch of its own."""
    own = node.end - node.start
    branches = [replace(child, start=node.start, size=child.size + own) for child in node.children]
    if node.reads:
        branches.append(replace(node, children=[], size=own, leaves=len(node.ends)))
    return branches


def _common(left: np.ndarray, right: np.ndarray) -> int:
    shorter = min(len(left), len(right))
    differs = left[:shorter] != right[:shorter]
    first = int(differs.argmax()) if shorter else 0
    return first if shorter and differs[first] else shorter


def _split(node: Node, at: int) -> None:
    """Cut a node in two, one below the other."""
    lower = Node(node.sequence, at, node.end, node, node.children, node.ends)
    for child in lower.children:
        child.parent = lower
    node.end, node.children, node.ends = at, [lower], []


def _note(node: Node, positions: Sequence[Sequence[int]]) -> None:
    """Put what the sequences that end in *node* want to know where it is computed: here or above."""
    for i in node.ends:
        for slot, position in enumerate(positions[i]):
            where = node
            while where.start > position and where.parent is not None:
                where = where.parent
            where.reads.append((position, i, slot))
