"""Log-probabilities of given tokens in given sequences, every shared beginning computed once. Exact: no token's inputs change.

The tree of common beginnings (:mod:`.prefix_tree`) is walked depth first. The keys and values of a large beginning are kept, once,
until all that starts with it is done; small subtrees stand side by side in the lines of a batch, where a mask lets each token
see exactly its own past, at the positions it has in its own sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from modelkit.errors import UserError
from modelkit.gptq.layer import dequantised
from modelkit.scoring.batches import Grid, Line, in_lines
from modelkit.scoring.costs import Costs, batch_tokens
from modelkit.scoring.forward import Forward, Likeliest, Passed
from modelkit.scoring.prefix_tree import Ids, Node, build, plan
from modelkit.scoring.shared_cache import KeysValues

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SHARED = "shared prefixes"
WIDTH = 128  # tokens in a line, where subtrees are shorter
WORTH = 64  # tokens that keeping a beginning must save


@dataclass(frozen=True)
class Want:
    """What to read off a sequence: the natural-log probability of ``tokens[k]`` after its token ``positions[k]``, and the *top* likeliest
    tokens there."""

    ids: Ids
    positions: Sequence[int]
    tokens: Sequence[int]
    top: int = 0


OnBatch = Callable[[list[int], list[torch.Tensor]], None]
"""Told the indices of finished wants and, for each, its log-probabilities (fp32, on the CPU). Batches come in any order."""
OnLikeliest = Callable[[int, int, Likeliest], None]
"""Told a want's index, the place of one of its positions, and the likeliest tokens there; before the want is finished."""


class Scorer:
    """Scores with one model, and counts what it took. Quantised layers are dequantised, so that no score depends on the batch.

    :param token_budget: tokens in a batch; by default as many as suit the device. Less whenever memory runs out.
    :param exact: every sequence alone, nothing reused.
    :param sharing: what was done about shared beginnings, and why not more.
    :param tokens_computed: tokens that went through the model, padding not counted.
    :param tokens_reused: tokens that were wanted, and had been computed already for another sequence.
    :param flops: floating-point operations that the computed tokens needed (:meth:`.Costs.flops`).
    """

    def __init__(self, model: PreTrainedModel, token_budget: int | None = None, exact: bool = False) -> None:
        self.exact = exact
        self.token_budget = token_budget or batch_tokens(model)
        self.sharing = "no sharing: exact" if exact else SHARED
        self.tokens_computed = self.tokens_reused = 0
        self.flops = 0.0
        self._forward = Forward(model)
        self._costs = Costs.of(self._forward.model)
        self._probed: str | None = None

    @torch.inference_mode()
    def score(
        self,
        wants: Sequence[Want],
        on_batch: OnBatch,
        todo: Set[int] | None = None,
        on_likeliest: OnLikeliest = lambda want, slot, likeliest: None,
    ) -> None:
        """Score every want (no sequence and no list of positions empty), handing results over as soon as they are complete.

        Batches are planned over all wants, and those without any index in *todo* (``None``: all) are skipped. So work that goes on
        after a stop meets the very batches, and the very last digits, of work that was never stopped.

        :raises UserError: when not even a single sequence fits into memory.
        """
        if not wants:
            return
        todo = set(range(len(wants))) if todo is None else todo
        share = self._may_share(max(len(want.ids) for want in wants))
        found = [torch.zeros(len(want.tokens)) for want in wants]
        missing = [len(want.tokens) for want in wants]
        paid = 0
        for passed in self._shared(wants, todo) if share else self._alone(wants, todo):
            paid += passed.grid.tokens
            for (*_, sequence, slot), likeliest in zip(passed.grid.reads, passed.likeliest, strict=False):
                on_likeliest(sequence, slot, likeliest)
            done = []
            for (*_, sequence, slot), logprob in zip(passed.grid.reads, passed.logprobs, strict=True):
                found[sequence][slot] = logprob
                missing[sequence] -= 1
                if not missing[sequence]:
                    done.append(sequence)
            if done:
                self.tokens_reused += sum(len(wants[i].ids) for i in done) - paid
                paid = 0
                on_batch(done, [found[i] for i in done])

    def _alone(self, wants: Sequence[Want], todo: Set[int]) -> Iterator[Passed]:
        """Every sequence from its first token on, in batches of similar length; with *exact*, one by one."""
        chains = [
            Node(i, 0, len(want.ids), reads=[(at, i, slot) for slot, at in enumerate(want.positions)], size=len(want.ids))
            for i, want in enumerate(wants)
        ]
        for lines in in_lines(chains, 1 if self.exact else self.token_budget, width=1):
            if _any_of(todo, [unit for line in lines for unit in line]):
                yield from self._compute(lines, [], wants)

    def _shared(self, wants: Sequence[Want], todo: Set[int], unit: int | None = None, worth: int = WORTH) -> Iterator[Passed]:
        """Every token of the tree of common beginnings once."""
        roots = build([want.ids for want in wants], [want.positions for want in wants])
        yield from self._walk(roots, [], wants, todo, unit or self.token_budget // 2, worth)

    def _walk(
        self, nodes: Sequence[Node], before: KeysValues, wants: Sequence[Want], todo: Set[int], unit: int, worth: int
    ) -> Iterator[Passed]:
        """All of these subtrees, which begin behind *before*. A beginning is computed when it is first needed."""
        path: list[tuple[Node | None, KeysValues]] = [(None, before)]
        kept: list[Node | None] = [None]  # the path as planned, of which the last ones may not have been needed so far
        for step in plan(nodes, unit, worth):
            while kept[-1] is not step.prefix:
                if path[-1][0] is kept.pop():
                    path.pop()
            if step.keep is not None:
                kept.append(step.keep)
                if _any_of(todo, [step.keep], below=False):
                    yield from self._extend(path, kept, wants)
            for lines in in_lines(step.units, self.token_budget, WIDTH):
                if _any_of(todo, [unit for line in lines for unit in line]):
                    yield from self._extend(path, kept, wants)
                    yield from self._compute(lines, path[-1][1], wants)

    def _extend(self, path: list[tuple[Node | None, KeysValues]], kept: Sequence[Node | None], wants: Sequence[Want]) -> Iterator[Passed]:
        """Bring *path* up to all that is to be *kept*, each beginning in pieces that fit into a batch."""
        for node in kept[len(path) :]:
            assert node is not None
            keys_values, start = path[-1][1], node.start
            while start < node.end:
                end = min(start + self.token_budget, node.end)
                reads = [read for read in node.reads if start <= read[0] < end]
                piece = replace(node, start=start, end=end, children=[], size=end - start, reads=reads)
                passed = self._try([[piece]], keys_values, wants, keep=True)
                if passed is not None:
                    keys_values, start = passed.keys_values, end
                    yield passed
            path.append((node, keys_values))

    def _compute(self, lines: list[Line], prefix: KeysValues, wants: Sequence[Want]) -> Iterator[Passed]:
        """A batch; in halves, again and again, when it doesn't fit into memory."""
        passed = self._try(lines, prefix, wants)
        if passed is not None:
            yield passed
            return
        if len(lines) == 1:
            lines = [[unit] for unit in lines[0]]
        if len(lines) > 1:
            half = len(lines) // 2
            yield from self._compute(lines[:half], prefix, wants)
            yield from self._compute(lines[half:], prefix, wants)
        elif lines[0][0].children:
            yield from self._walk(lines[0], prefix, wants, set(range(len(wants))), lines[0][0].size // 2, worth=0)
        else:
            raise UserError(f"a question of {lines[0][0].end} tokens doesn't fit into memory: use --dtype bf16, or fewer --shots.")

    def _try(self, lines: list[Line], prefix: KeysValues, wants: Sequence[Want], keep: bool = False) -> Passed | None:
        """A pass, or ``None`` and a smaller budget from now on where memory did not suffice."""
        try:
            return self._pass(lines, prefix, wants, keep)
        except RuntimeError as error:
            if not _out_of_memory(error):
                raise
        tokens = sum(unit.size for line in lines for unit in line)
        if tokens <= 8:
            raise UserError(f"not even {tokens} tokens at a time fit into memory: use --dtype bf16 or a smaller model.")
        self.token_budget = min(self.token_budget, tokens // 2)
        return None

    def _pass(self, lines: list[Line], prefix: KeysValues, wants: Sequence[Want], keep: bool = False) -> Passed:
        """One forward pass, counted."""
        grid = Grid.of(lines, [want.ids for want in wants])
        tokens = [wants[sequence].tokens[slot] for *_, sequence, slot in grid.reads]
        with dequantised(self._forward.model):
            passed = self._forward.run(grid, prefix, tokens, keep, max((wants[read[2]].top for read in grid.reads), default=0))
        nodes = [node for line in lines for unit in line for node in unit.subtree()]
        visible = sum((node.end - node.start) * (node.start + 1 + node.end) // 2 for node in nodes)
        self.tokens_computed += grid.tokens
        self.flops += self._costs.flops(grid.tokens, visible, passed.outputs)
        return passed

    def _may_share(self, longest: int) -> bool:
        """Whether beginnings can be shared, by the model's configuration and by trying; the reason goes to :attr:`sharing`."""
        if self.exact:
            return False
        reason = self._forward.unshareable(longest)
        if reason is None and self._probed is None:
            self._probed = self._probe()
        reason = reason or self._probed
        self.sharing = f"no sharing: {reason}" if reason else SHARED
        return not reason

    def _probe(self) -> str:
        """Try sharing on a few tokens: why the results are others than without, or ``""`` where they are the same.

        What a configuration doesn't say – recurrent layers, positions that are not taken from outside – shows here.
        """
        start, vocabulary = list(range(3, 9)), self._forward.model.config.vocab_size
        texts = [[*start, 11, 12, 13], [*start, 11, 12, 14, 15], [*start, 16, 17], [18, *start]]
        ids = [[token * 7 % vocabulary for token in text] for text in texts]
        wants = [Want(text, range(2, len(text)), [5 % vocabulary] * (len(text) - 2)) for text in ids]
        counters = self.tokens_computed, self.flops
        try:
            everything = set(range(len(wants)))
            shared, alone = (
                {read[2:]: logprob for passed in passes for read, logprob in zip(passed.grid.reads, passed.logprobs, strict=True)}
                for passes in (self._shared(wants, everything, unit=6, worth=1), self._alone(wants, everything))
            )
        except (RuntimeError, TypeError, ValueError, AttributeError, NotImplementedError) as error:
            return f"{type(self._forward.model).__name__} does not read tokens in lines ({type(error).__name__})"
        finally:
            self.tokens_computed, self.flops = counters
        off = max(abs(shared[place] - alone[place]) for place in alone)
        return "" if off <= self._forward.tolerance else f"{type(self._forward.model).__name__} changes by {off:.2g} in lines"


def _any_of(todo: Set[int], nodes: Sequence[Node], below: bool = True) -> bool:
    """Whether anything in *todo* is read off these nodes, or off those below them."""
    return any(read[1] in todo for node in nodes for one in (node.subtree() if below else [node]) for read in one.reads)


def _out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error) or "not enough memory" in str(error)
