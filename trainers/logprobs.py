"""Log-probabilities of replies under a model: what every preference and policy method compares."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from modelkit import atomic
from modelkit.fingerprint import sha256_of_file, sha256_of_text
from modelkit.scoring.batches import right_pad
from modelkit.scoring.logits import logits_at
from trainers.loop import computing_in
from trainers.recipe import Optimisation
from trainers.strategies import Strategy, turns

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_LOGPROBS, _HASH = "logprobs.safetensors", "sha256"


def reply_logprob_sums(model: PreTrainedModel, sequences: Sequence[Sequence[int]], starts: Sequence[int]) -> Tensor:
    """log π(reply | prompt) of each sequence, whose reply begins at its start: sums over tokens, fp32 [sequences]. Differentiable."""
    ids = right_pad(sequences, model.device)
    lengths = [len(sequence) - start for sequence, start in zip(sequences, starts, strict=True)]
    rows = torch.repeat_interleave(torch.arange(len(sequences)), torch.tensor(lengths))
    columns = torch.cat([torch.arange(start, len(sequence)) for sequence, start in zip(sequences, starts, strict=True)])
    targets = ids[rows.to(ids.device), columns.to(ids.device)]
    logprobs = -functional.cross_entropy(logits_at(model, ids, rows, columns - 1), targets, reduction="none")
    return torch.stack([part.sum() for part in logprobs.split(lengths)])


@dataclass(frozen=True)
class Reference:
    """The model that training started from: how to load it, what it is, and where its log-probabilities are kept."""

    load: Callable[[], PreTrainedModel]
    fingerprint: str
    cache: Path | None = None


def of_reference(
    reference: Reference, sequences: Sequence[Sequence[int]], starts: Sequence[int], settings: Optimisation, strategy: Strategy
) -> Tensor:
    """:func:`reply_logprob_sums` of the frozen *reference* over a whole data set, computed once, in the policy's precision, [sequences].

    Ranks share the work and then know all of it. It is kept in the reference's cache under a name made of its fingerprint, the
    precision and the tokens, so that a resumed stage does not compute it again. The model is loaded only if nothing is there, and let
    go of before this returns.
    """
    if not sequences:
        return torch.zeros(0)
    content = [(list(ids), start) for ids, start in zip(sequences, starts, strict=True)]
    digest = sha256_of_text(f"{reference.fingerprint}\0{settings.dtype}\0{content}")
    folder = None if reference.cache is None else reference.cache / f"reference-{digest.removeprefix('sha256:')[:16]}"
    kept = None if folder is None else _read(folder)
    everywhere = strategy.sum([float(kept is not None)])[0] == strategy.world
    if kept is not None and everywhere:
        return kept
    result = _computed(reference.load().eval(), sequences, starts, settings, strategy)
    gc.collect()  # a sharded model refers to itself, so nothing else would let go of it before long
    if folder is not None:
        if strategy.rank == 0:
            _write(folder, result)
        strategy.barrier()
    return result


def _computed(
    model: PreTrainedModel, sequences: Sequence[Sequence[int]], starts: Sequence[int], settings: Optimisation, strategy: Strategy
) -> Tensor:
    strategy.prepare(model, trainable=False)
    result = torch.zeros(len(sequences))
    lengths = [len(sequence) for sequence in sequences]
    with torch.no_grad(), computing_in(settings.dtype, strategy.device):
        for rows, weight in turns(strategy, range(len(sequences)), lengths, settings.micro_tokens):
            sums = strategy.forward(model, reply_logprob_sums, [sequences[i] for i in rows], [starts[i] for i in rows])
            if weight:
                result[rows] = sums.cpu()
    return strategy.combine(result)


def _read(folder: Path) -> Tensor | None:
    """What :func:`_write` put there; ``None`` when there is nothing, or it is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not folder.is_dir():
        return None
    try:
        if sha256_of_file(folder / _LOGPROBS) != (folder / _HASH).read_text(encoding="utf-8"):
            raise ValueError(f"{_LOGPROBS} is not as it was written")
        return load_file(folder / _LOGPROBS)["logprobs"]
    except (OSError, ValueError, SafetensorError) as error:
        print(f"warning: {folder} is damaged ({error}); the reference's log-probabilities are computed again")
        return None


def _write(folder: Path, logprobs: Tensor) -> None:
    from safetensors.torch import save_file

    with atomic.directory(folder) as beside:
        save_file({"logprobs": logprobs}, beside / _LOGPROBS)
        (beside / _HASH).write_text(sha256_of_file(beside / _LOGPROBS), encoding="utf-8")
