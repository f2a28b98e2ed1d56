"""How much a score costs: floating-point operations by formula, tokens per batch by the memory at hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Costs:
    """What a decoder's layers cost.

    :param weights: weights of the matrices that every token is multiplied with, without embeddings and output layer.
    :param attention: layers × heads × size of a head.
    :param output: weights of the output layer.
    """

    weights: int
    attention: int
    output: int

    @classmethod
    def of(cls, model: Any) -> Costs:
        """The costs of a Hugging Face language model; of a mixture of experts, as if all experts worked."""
        config = model.config
        heads = getattr(config, "num_attention_heads", 0)
        size = getattr(config, "head_dim", None) or (config.hidden_size // heads if heads else 0)
        weights = sum(p.numel() for p in model.base_model.parameters() if p.ndim > 1)
        embeddings = sum(m.weight.numel() for m in model.base_model.modules() if isinstance(m, torch.nn.Embedding))
        head = model.get_output_embeddings()
        return cls(weights - embeddings, config.num_hidden_layers * heads * size, head.weight.numel() if head is not None else 0)

    def flops(self, tokens: int, visible: int, outputs: int) -> float:
        """``2·weights·tokens + 4·attention·visible + 2·output·outputs``: a multiplication and an addition per weight and token,
        for the layers; per pair of token and token it sees, for q·k and for the weighted sum of v; and for the output layer.

        :param visible: sum over the tokens of how many each sees, itself included.
        :param outputs: places the output layer was applied to.
        """
        return 2.0 * self.weights * tokens + 4.0 * self.attention * visible + 2.0 * self.output * outputs


def batch_tokens(model: Any) -> int:
    """Tokens per batch: on a CPU few, so that activations stay in cache; on a GPU what a quarter of its free memory holds, up to 16,384.

    A token's activations are taken as 24 vectors of the hidden size, which covers a gated feed-forward layer of four times that.
    """
    if model.device.type != "cuda":
        return 512
    free, _ = torch.cuda.mem_get_info(model.device)
    per_token = 24 * model.config.hidden_size * model.dtype.itemsize
    return max(1024, min(16384, free // 4 // per_token))
