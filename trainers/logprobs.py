"""Log-probabilities of replies under a model: what every preference and policy method compares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from modelkit import atomic
from modelkit.fingerprint import sha256_of_file, sha256_of_text
from modelkit.scoring.batches import right_pad
from modelkit.scoring.logits import logits_at
from trainers.data.order import microbatches

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


def of_reference(
    load: Callable[[], PreTrainedModel],
    fingerprint: str,
    sequences: Sequence[Sequence[int]],
    starts: Sequence[int],
    micro_tokens: int,
    cache: Path | None,
) -> Tensor:
    """:func:`reply_logprob_sums` of a frozen reference over a whole data set, computed once, [sequences].

    They are kept in *cache* under a name made of the model's *fingerprint* and the tokens, so that a resumed stage does not
    compute them again. The model is loaded only if they are not there, and let go of before this returns.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save_file

    digest = sha256_of_text(f"{fingerprint}\0{[(list(ids), start) for ids, start in zip(sequences, starts, strict=True)]}")
    folder = None if cache is None else cache / f"reference-{digest.removeprefix('sha256:')[:16]}"
    if folder is not None and folder.is_dir():
        try:
            if sha256_of_file(folder / _LOGPROBS) != (folder / _HASH).read_text(encoding="utf-8"):
                raise ValueError(f"{_LOGPROBS} is not as it was written")
            return load_file(folder / _LOGPROBS)["logprobs"]
        except (OSError, ValueError, SafetensorError) as error:
            print(f"warning: {folder} is damaged ({error}); the reference's log-probabilities are computed again")
    model = load().eval()
    result = torch.zeros(len(sequences))
    lengths = [len(sequence) for sequence in sequences]
    with torch.inference_mode():
        for rows in microbatches(range(len(sequences)), lengths, micro_tokens):
            result[rows] = reply_logprob_sums(model, [sequences[i] for i in rows], [starts[i] for i in rows]).cpu()
    if folder is not None:
        with atomic.directory(folder) as beside:
            save_file({"logprobs": result}, beside / _LOGPROBS)
            (beside / _HASH).write_text(sha256_of_file(beside / _LOGPROBS), encoding="utf-8")
    return result
