"""Models made ready for training: loaded in their dtype, with LoRA adapters where asked for, and saved as what they then are."""

from __future__ import annotations

import copy
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from modelkit import atomic, checkpoint, hub
from modelkit.adapter import quiet_peft, with_scalar_head
from modelkit.checkpoint import StageInfo
from modelkit.device import dtype_of
from modelkit.errors import UserError
from modelkit.gptq.layer import GPTQLinear, always_dequantise
from modelkit.linear import when_recomputed
from trainers.modes import recompute
from trainers.recipe import Lora, Optimisation
from trainers.reward import from_language_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from trainers.strategies import Strategy

Kind = Literal["language", "reward"]


@dataclass
class Trainee:
    """A model to train. ``model`` is what passes go through; with LoRA, ``adapter`` is PEFT's view of it and ``base`` its checkpoint."""

    model: PreTrainedModel
    adapter: Any = None
    base: Path | None = None
    initial: dict[str, Tensor] = field(default_factory=dict)

    def save(
        self,
        tokenizer: PreTrainedTokenizerBase,
        folder: Path,
        info: StageInfo,
        strategy: Strategy,
        extra: dict[str, Any] | None = None,
    ) -> None:
        """Write the checkpoint, whole or not at all: a plain model, or a PEFT adapter beside its base. All ranks call it."""
        weights = strategy.export(self.model)
        if strategy.rank == 0:
            if self.adapter is None:
                self.model.config.use_cache = True
                checkpoint.save(self.model, tokenizer, folder, info, extra, weights)
            else:
                self._save_adapter(weights, tokenizer, folder, info, extra or {})
        strategy.barrier()

    def _save_adapter(
        self, weights: dict[str, Tensor], tokenizer: PreTrainedTokenizerBase, folder: Path, info: StageInfo, extra: dict[str, Any]
    ) -> None:
        assert self.base is not None
        config = self.adapter.peft_config["default"]
        learnt = dict(weights)
        if self.initial:
            config = _without_start(config, learnt, self.initial)
        before, self.adapter.peft_config["default"] = self.adapter.peft_config["default"], config
        try:
            with atomic.directory(folder) as beside:
                self.adapter.save_pretrained(
                    beside, state_dict={f"base_model.model.{name}": value for name, value in learnt.items()}, save_embedding_layers=False
                )
                (beside / "README.md").unlink(missing_ok=True)
                described = json.loads((beside / "adapter_config.json").read_text(encoding="utf-8"))
                described["base_model_name_or_path"] = _path_from(folder, self.base)
                tokenizer.save_pretrained(beside)
                for name, value in {"adapter_config.json": described, "stage.json": info.model_dump(), **extra}.items():
                    (beside / name).write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        finally:
            self.adapter.peft_config["default"] = before


def load(
    start: Path,
    kind: Kind,
    settings: Optimisation,
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
    device: torch.device | None = None,
) -> Trainee:
    """The checkpoint *start* ready to be trained as *settings* say; a reward model may start from a language model.

    *seed* decides a new head and new adapters, *device* (the CPU, if not given) where the weights are. Prints how much of it is trained.

    :raises UserError: for adapters that don't fit the model, or a quantised model without adapters.
    """
    frozen = settings.lora is not None
    if not frozen and checkpoint.is_quantised(start):
        raise UserError(f"{start} is quantised, and quantised weights can't be trained: set lora (for example --set lora.rank=16).")
    dtype = dtype_of(settings.dtype) if frozen else torch.float32
    new_head = kind == "reward" and not checkpoint.is_reward_model(start)
    model = checkpoint.load_model(start, "language" if new_head else kind, dtype, device)
    torch.manual_seed(seed)
    always_dequantise(model)
    if new_head:
        model = with_scalar_head(model) if frozen else from_language_model(model, tokenizer)
        if frozen:
            nn.init.normal_(_head(model).weight, std=(model.config.hidden_size + 1) ** -0.5)
    if kind == "reward":
        model.config.pad_token_id = tokenizer.pad_token_id
        _head(model).float()
    return adapt(model, settings, kind, start)


def adapt(model: PreTrainedModel, settings: Optimisation, kind: Kind, base: Path | None = None) -> Trainee:
    """A loaded model with recomputation and adapters as *settings* say; *base* is the checkpoint that the adapters will name."""
    model.eval()
    set_up_recomputation(model, settings)
    if settings.lora is None:
        trainee = Trainee(model)
    else:
        trainee = _with_adapters(model, settings.lora, kind)
        trainee.base = base
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    everything = sum(p.numel() for p in model.parameters())
    print(f"training {trained:,} of {everything:,} parameters ({100 * trained / everything:.2f} %)")
    return trainee


def set_up_recomputation(model: PreTrainedModel, settings: Optimisation) -> None:
    """Make layers forget their activations and compute them again, where *settings* say so and :func:`trainers.modes.learning` holds.

    :raises UserError: for a model that can't.
    """
    if settings.gradient_checkpointing:
        if not model.supports_gradient_checkpointing:
            raise UserError(f"models of type {model.config.model_type} can't recompute their layers: set gradient_checkpointing: false.")
        set_up = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
        set_up({"use_reentrant": False, "context_fn": when_recomputed})
        recompute(model, False)


def _with_adapters(model: PreTrainedModel, lora: Lora, kind: Kind) -> Trainee:
    from peft import LoraConfig, get_peft_model

    pissa = lora.init == "pissa"
    if pissa and any(isinstance(module, GPTQLinear) for module in model.modules()):
        raise UserError("pissa takes its start from whole weights, and this model's are quantised: set lora.init: default.")
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]
        target_modules=lora.targets,
        lora_dropout=lora.dropout,
        use_rslora=lora.rslora,
        init_lora_weights="pissa" if pissa else True,
        task_type="SEQ_CLS" if kind == "reward" else "CAUSAL_LM",
        modules_to_save=["score"] if kind == "reward" else None,
    )
    try:
        with quiet_peft():
            adapter = get_peft_model(model, config)
    except ValueError as error:
        raise UserError(f"lora.targets {lora.targets!r} don't fit the model ({str(error).splitlines()[0][:120]}).") from None
    inner: Any = adapter.get_base_model()
    inner.eval()
    initial = {name: p.detach().clone() for name, p in inner.named_parameters() if "lora_" in name} if pissa else {}
    return Trainee(inner, adapter, initial=initial)


def _without_start(config: Any, weights: dict[str, Tensor], initial: dict[str, Tensor]) -> Any:
    """PiSSA took its start out of the base's weights; twice the rank says the same about the untouched base.

    W − s·B₀A₀ + s·BA = W + s·[B, −B₀][A; A₀] (Meng et al. 2024, appendix C). Changes *weights*, returns their configuration.
    """
    for name, start in initial.items():
        start = start.to(weights[name])
        weights[name] = torch.cat([weights[name], start], 0) if "lora_A" in name else torch.cat([weights[name], -start], 1)
    doubled = copy.deepcopy(config)
    doubled.r = 2 * config.r
    doubled.lora_alpha = config.lora_alpha * (2**0.5 if config.use_rslora else 2)
    doubled.init_lora_weights = True
    return doubled


def _path_from(folder: Path, base: Path) -> str:
    """*base* as the adapter names it: relative within a run, so that runs can be moved, by its name on the hub, absolute otherwise."""
    if (name := hub.name_of(base)) is not None:
        return name
    if base.resolve().parent == folder.resolve().parent:
        return os.path.relpath(base.resolve(), folder.resolve())
    return str(base.resolve())


def _head(model: PreTrainedModel) -> nn.Linear:
    return model.score  # type: ignore[return-value]
