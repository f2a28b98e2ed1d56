"""What one training pass of a model allocates, found by running it on tensors that have shapes but no memory."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from modelkit import hub
from modelkit.adapter import quiet_peft
from modelkit.errors import ModelError, UserError
from modelkit.scoring.costs import Costs
from trainers.modes import learning
from trainers.recipe import Lora


@dataclass(frozen=True)
class Pass:
    """One micro-batch: ``tokens`` in rows of ``length``, of which the share ``labelled`` reaches the output layer.

    Trained weights are fp32 and cast to ``dtype`` as they are used; of ``sharded`` ones only the casts are ever whole.
    """

    tokens: int
    length: int
    labelled: float = 1.0
    dtype: torch.dtype = torch.float32
    lora: Lora | None = None
    recompute: bool = False
    sharded: bool = False


@dataclass(frozen=True)
class Footprint:
    """Parameters by count, allocations by bytes, work by floating-point operations.

    ``activations`` is the most that is live at one moment of forward and backward besides weights and gradients, where gradients
    are there already; ``fresh`` the same with gradients that are allocated on the way counted in. ``layer`` and ``root`` are the
    largest unit that sharded strategies put together at a time, and what lies outside of such units.
    """

    parameters: int
    trained: int
    layer: int
    root: int
    activations: int
    fresh: int
    forward_flops: float
    cache_per_token: int
    quantised: int


def read_config(model: Path) -> Any:
    """The configuration of a checkpoint directory (or of a ``config.json`` by itself, or of a model on the hub), without any weights.

    :raises ModelError: when there is none or it is of no known architecture.
    """
    from transformers import AutoConfig

    folder = model.parent if model.name == "config.json" else hub.find(str(model), config_only=True)
    if not (folder / "config.json").is_file():
        raise ModelError(f"there is no config.json at {folder}: a plan needs that much of a model.")
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:
        raise ModelError(f"{folder / 'config.json'} describes no model that is known here ({str(error).splitlines()[0][:150]}).") from None


def measure(config: Any, kind: Literal["language", "reward"], one: Pass) -> Footprint:
    """The footprint of a pass through the model that *config* describes.

    The pass really runs, through the model's own code, but on fake tensors: shapes, dtypes and lifetimes are those of a real one,
    so every allocation is counted for any architecture, with adapters and recomputation, in a second or two and no memory.

    :raises UserError: for a model whose code can't run so.
    """
    model = _built(config, kind, one)
    with FakeTensorMode():
        _made_fake(model)
        parameters = list(model.parameters())
        rows = [part for part in model.modules() if type(part).__name__ in set(getattr(model, "_no_split_modules", None) or ())]
        units = [sum(p.numel() for p in part.parameters()) for part in rows]
        count = sum(p.numel() for p in parameters)
        try:
            activations, fresh = (_peak(model, kind, one, ready) for ready in (True, False))
        except (RuntimeError, NotImplementedError, ValueError) as error:
            raise UserError(
                f"a {config.model_type} model can't be planned ({str(error).splitlines()[0][:120]}): try a smaller step."
            ) from None
        costs = Costs.of(model) if kind == "language" else Costs.of(_WithoutHead(model))
        outputs = int(one.tokens * one.labelled) if kind == "language" else one.tokens // one.length
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return Footprint(
            parameters=count,
            trained=sum(p.numel() for p in parameters if p.requires_grad),
            layer=max(units, default=0),
            root=count - sum(units),
            activations=activations,
            fresh=fresh,
            forward_flops=costs.flops(one.tokens, one.tokens * (one.length + 1) // 2, outputs),
            cache_per_token=2 * config.num_hidden_layers * heads * size * one.dtype.itemsize,
            quantised=costs.weights if getattr(config, "quantization_config", None) else 0,
        )


class _WithoutHead:
    """A reward model as :class:`Costs` wants to see a model: its head is one column, which costs nothing worth counting."""

    def __init__(self, model: Any) -> None:
        self.config, self.base_model = model.config, model.base_model

    def get_output_embeddings(self) -> None:
        return None


def _built(config: Any, kind: str, one: Pass) -> Any:
    """The model with adapters, its weights fake ones; frozen weights are in the pass's dtype, trained ones fp32 unless sharded."""
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    config = copy.deepcopy(config)
    config.quantization_config = None
    config.num_labels = 1
    loader: Any = AutoModelForCausalLM if kind == "language" else AutoModelForSequenceClassification
    with torch.device("meta"):
        model = loader.from_config(config, dtype=one.dtype if one.lora or one.sharded else torch.float32).eval()
    if one.recompute:
        set_up = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
        set_up({"use_reentrant": False, "preserve_rng_state": False})
    if one.lora is not None:
        model = _with_adapters(model, one.lora, kind)
    return model


def _with_adapters(model: Any, lora: Lora, kind: str) -> Any:
    from peft import LoraConfig, get_peft_model

    adapters = LoraConfig(
        r=lora.rank,
        target_modules=lora.targets,
        task_type="SEQ_CLS" if kind == "reward" else "CAUSAL_LM",
        modules_to_save=["score"] if kind == "reward" else None,
    )
    try:
        with quiet_peft():
            return get_peft_model(model, adapters, low_cpu_mem_usage=True).get_base_model().eval()
    except ValueError as error:
        raise UserError(f"lora.targets {lora.targets!r} don't fit the model ({str(error).splitlines()[0][:120]}).") from None


def _made_fake(model: nn.Module) -> None:
    """Put fake CPU tensors in the place of meta ones: on the meta device attention would choose another algorithm."""
    made: dict[Tensor, Any] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                if parameter not in made:
                    made[parameter] = nn.Parameter(torch.empty(parameter.shape, dtype=parameter.dtype), parameter.requires_grad)
                module._parameters[name] = made[parameter]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.zeros(buffer.shape, dtype=buffer.dtype)


def _peak(model: Any, kind: str, one: Pass, gradients_ready: bool) -> int:
    """The most bytes that forward and backward of one micro-batch hold at a time, weights not counted."""
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter) if gradients_ready and parameter.requires_grad else None
    mixed = torch.autocast("cpu", one.dtype, cache_enabled=False) if one.dtype != torch.float32 else nullcontext()
    with _metered(model) as meter, learning(model), mixed:
        ids = torch.zeros(max(1, one.tokens // one.length), one.length, dtype=torch.long)
        hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        if kind == "language":
            chosen = hidden.flatten(0, 1)[: max(1, int(one.labelled * ids.numel()))]
            loss = _cross_entropy(model.get_output_embeddings()(chosen).float(), ids)
            del chosen
        else:
            loss = model.score(hidden[:, -1]).float().sum()
        del hidden
        loss.backward()
    return meter.peak


def _cross_entropy(logits: Tensor, ids: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits, ids.flatten()[: logits.shape[0]], reduction="sum")


class _Meter(TorchDispatchMode):
    """Adds up the storages that operations make, and takes them off as they are given back."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._sizes: dict[int, int] = {}

    def know(self, tensor: Tensor, counted: bool = False) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._sizes:
            return
        self._sizes[key] = storage.nbytes() if counted else 0
        self.live += self._sizes[key]
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.live -= self._sizes.pop(key)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.know(leaf, counted=True)
        return result


@contextmanager
def _metered(model: nn.Module) -> Iterator[_Meter]:
    meter = _Meter()
    for tensor in (*model.parameters(), *model.buffers()):
        meter.know(tensor)
        if tensor.grad is not None:
            meter.know(tensor.grad)
    with meter:
        yield meter
