"""Exact log-probabilities of given tokens, in fp32, without materialising logits nobody asked for.

Takes token ids only: which letter is which token, or what belongs to an answer, is the caller's to know.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from modelkit.scoring.batches import by_length, right_pad

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Progress = Callable[[int], None]


@torch.inference_mode()
def next_token_logprobs(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    tokens: Sequence[int] | Sequence[Sequence[int]],
    token_budget: int = 8192,
    on_progress: Progress = lambda done: None,
) -> torch.Tensor:
    """Natural-log probability, over the full vocabulary, that each of *tokens* follows each prompt.

    :param tokens: the same token ids for every prompt, or one equally long list per prompt.
    :param on_progress: told the number of prompts done.
    :returns: fp32, [prompts, tokens].
    """
    if not prompts:
        return torch.empty(0, 0)
    wanted = torch.tensor(tokens if isinstance(tokens[0], Sequence) else [list(tokens)] * len(prompts))
    result = torch.empty(wanted.shape, dtype=torch.float32)
    done = 0
    for batch in by_length([len(prompt) for prompt in prompts], token_budget):
        last = torch.tensor([len(prompts[i]) - 1 for i in batch])
        logits = logits_at(model, right_pad([prompts[i] for i in batch], model.device), torch.arange(len(batch)), last)
        result[batch] = logits.log_softmax(-1).cpu().gather(1, wanted[batch])
        done += len(batch)
        on_progress(done)
    return result


@torch.inference_mode()
def continuation_logprobs(
    model: PreTrainedModel,
    contexts: Sequence[Sequence[int]],
    continuations: Sequence[Sequence[int]],
    token_budget: int = 8192,
    on_progress: Progress = lambda done: None,
) -> list[torch.Tensor]:
    """Natural-log probability of every token of each continuation after its context (neither may be empty).

    :returns: one fp32 tensor per pair, [length of the continuation].
    """
    sequences = [[*context, *continuation] for context, continuation in zip(contexts, continuations, strict=True)]
    result: list[torch.Tensor] = [torch.empty(0)] * len(sequences)
    done = 0
    for batch in by_length([len(sequence) for sequence in sequences], token_budget):
        rows = torch.cat([torch.full((len(continuations[i]),), row) for row, i in enumerate(batch)])
        columns = torch.cat([torch.arange(len(contexts[i]) - 1, len(sequences[i]) - 1) for i in batch])
        targets = torch.cat([torch.tensor(list(continuations[i])) for i in batch])
        logits = logits_at(model, right_pad([sequences[i] for i in batch], model.device), rows, columns)
        chances = logits.log_softmax(-1).cpu().gather(1, targets[:, None])[:, 0]
        for i, piece in zip(batch, chances.split([len(continuations[i]) for i in batch]), strict=True):
            result[i] = piece.clone()
        done += len(batch)
        on_progress(done)
    return result


def logits_at(model: PreTrainedModel, ids: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """fp32 logits of a right-padded batch at chosen positions only, [positions, vocabulary]. Differentiable.

    The output layer is applied to the chosen positions alone, which nearly halves the cost of a step when few are labelled;
    models that do more than one linear layer there (soft-capped or scaled logits) go through their own forward pass.

    :param ids: [rows, length], right-padded; read without an attention mask, since causal attention never looks right.
    :param rows, columns: [positions], which ones.
    """
    if plain_head(model):
        hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        return model.get_output_embeddings()(hidden[rows.to(hidden.device), columns.to(hidden.device)]).float()
    kept, where = columns.unique(return_inverse=True)
    logits = model(input_ids=ids, use_cache=False, logits_to_keep=kept.to(ids.device)).logits
    return logits[rows.to(logits.device), where.to(logits.device)].float()


def plain_head(model: PreTrainedModel) -> bool:
    """Whether logits are just ``output_embeddings(last_hidden_state)``."""
    if not hasattr(model, "base_model") or model.base_model is model or model.get_output_embeddings() is None:
        return False
    return model.config.model_type in {"llama", "qwen2", "qwen3", "mistral", "gpt2", "gpt_neox", "bloom", "phi"}
