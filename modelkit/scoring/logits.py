"""Logits where they are wanted, and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def logits_at(
    model: PreTrainedModel, ids: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, positions: torch.Tensor | None = None
) -> torch.Tensor:
    """fp32 logits of a right-padded batch at chosen positions only, [positions, vocabulary]. Differentiable.

    The output layer is applied to the chosen positions alone, which nearly halves the cost of a step when few are labelled;
    models that do more than one linear layer there (soft-capped or scaled logits) go through their own forward pass.

    :param ids: [rows, length], right-padded; read without an attention mask, since causal attention never looks right.
    :param rows, columns: [positions], which ones.
    :param positions: [rows, length], for sequences that lie behind each other in one row: where each starts again at 0. Attention
        then stays within a sequence, in models and attention functions that heed it (not all do: the caller checks).
    """
    placed = {} if positions is None else {"position_ids": positions}
    if plain_head(model):
        hidden = model.base_model(input_ids=ids, use_cache=False, **placed).last_hidden_state
        return model.get_output_embeddings()(hidden[rows.to(hidden.device), columns.to(hidden.device)]).float()
    kept, where = columns.unique(return_inverse=True)
    logits = model(input_ids=ids, use_cache=False, **placed, logits_to_keep=kept.to(ids.device)).logits
    return logits[rows.to(logits.device), where.to(logits.device)].float()


def plain_head(model: PreTrainedModel) -> bool:
    """Whether logits are just ``output_embeddings(last_hidden_state)``."""
    if not hasattr(model, "base_model") or model.base_model is model or model.get_output_embeddings() is None:
        return False
    return model.config.model_type in {"llama", "qwen2", "qwen3", "mistral", "gpt2", "gpt_neox", "bloom", "opt", "phi"}
